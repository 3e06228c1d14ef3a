"""The drawing app without a browser: ink, checked requests, and a server that stays alive."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metasiam.app.drawings import MOST_BYTES, Drawing, read_drawing, read_symbol_file, read_symbols
from metasiam.app.ink import MOST_SEGMENTS, STYLES, centre_ink, draw_strokes, segments_of, style_for
from metasiam.app.opening import open_studio
from metasiam.app.patience import ANSWERS
from metasiam.app.studio import PairRule, Studio
from metasiam.errors import MetaSiamError
from metasiam.gallery.pictures import embed_pixels
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo

L_SHAPE = [[[0, 0], [0, 40], [20, 40]]]
CROSS = [[[0, 0], [30, 30]], [[30, 0], [0, 30]]]


def drawing(strokes: list) -> dict:
    return {"strokes": strokes}


@pytest.fixture(scope="module")
def studio() -> Studio:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedder = build_embedder("conv4", channels=1, image_size=(32, 32)).eval()
    info = EmbedderInfo("conv4", 1, (32, 32), (0.1,), (0.3,), trained_on="strokes")
    return Studio(embedder, info, PairRule(0.9, 8.0, "nothing"))


def test_neither_place_nor_size_of_a_drawing_changes_what_the_network_sees():
    moved = [[[x * 3.7 + 500, y * 3.7 - 80] for x, y in stroke] for stroke in L_SHAPE]
    here, there = (draw_strokes(strokes, 28) for strokes in (L_SHAPE, moved))
    assert int((here.int() - there.int()).abs().max()) <= 1


def test_a_drawing_fills_its_part_of_the_image_with_the_pen_of_the_style():
    style = STYLES["strokes"]
    seen = draw_strokes([[[0, 0], [0, 100]]], 56, style)
    rows, columns = (seen > 127).any(1).sum(), (seen > 127).any(0).sum()
    assert abs(int(rows) - (style.extent + style.pen) * 56) <= 2
    assert abs(int(columns) - style.pen * 56) <= 1


def test_ink_equals_a_naive_distance_to_every_piece():
    seen = draw_strokes(CROSS, 16)
    style = STYLES["strokes"]
    half = style.extent * 16 / 2
    pieces = [((8 - half, 8 - half), (8 + half, 8 + half)), ((8 + half, 8 - half), (8 - half, 8 + half))]
    for row in range(16):
        for column in range(16):
            x, y = column + 0.5, row + 0.5
            nearest = 1e9
            for (ax, ay), (bx, by) in pieces:
                share = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
                share = min(1.0, max(0.0, share))
                nearest = min(nearest, ((x - ax - share * (bx - ax)) ** 2 + (y - ay - share * (by - ay)) ** 2) ** 0.5)
            expected = 255 * min(1.0, max(0.0, style.pen * 16 / 2 + 0.5 - nearest))
            assert abs(float(seen[row, column]) - expected) <= 1


def test_a_single_point_is_a_dot_in_the_middle_and_no_point_is_an_error():
    seen = draw_strokes([[[3, 5]]], 28).float()
    axis = torch.arange(28) + 0.5
    assert float((seen.sum(0) * axis).sum() / seen.sum()) == pytest.approx(14)
    for empty in ([], [[]]):
        with pytest.raises(ValueError, match="empty"):
            segments_of(empty)
    with pytest.raises(ValueError, match="finite"):
        segments_of([[[0, float("nan")]]])


def test_long_drawings_are_thinned_out_but_keep_their_ends():
    stroke = [[float(i), float(i % 7)] for i in range(5000)]
    pieces = segments_of([stroke])
    assert len(pieces) <= MOST_SEGMENTS
    assert pieces[0, 0].tolist() == stroke[0]
    assert pieces[-1, 1].tolist() == stroke[-1]


@pytest.mark.parametrize("dark_on_light", [True, False])
def test_a_picture_s_ink_is_found_whichever_way_round_it_is(dark_on_light: bool):
    page = torch.full((90, 120), 240 if dark_on_light else 10, dtype=torch.uint8)
    page[20:60, 30:34] = 20 if dark_on_light else 250
    page[56:60, 30:50] = 20 if dark_on_light else 250
    seen = centre_ink(page, 28)
    drawn = draw_strokes(L_SHAPE, 28)
    both = (seen > 127).flatten() & (drawn > 127).flatten()
    assert int(both.sum()) > 0.6 * int((drawn > 127).sum())
    with pytest.raises(ValueError, match="empty"):
        centre_ink(torch.full((20, 20), 200, dtype=torch.uint8), 28)


def test_ink_that_is_moved_to_its_middle_does_not_come_back_on_the_other_side():
    page = torch.full((60, 60), 255, dtype=torch.uint8)
    page[10:50, 8:16] = 0  # a heavy bar on the left,
    page[29:31, 16:52] = 0  # and a thin tail to the right
    seen = centre_ink(page, 28, STYLES["mnist"]) > 127
    columns = seen.any(0).nonzero().flatten()
    assert len(columns) == int(columns[-1]) - int(columns[0]) + 1 < 28


def test_each_kind_of_training_image_has_its_style():
    assert style_for("mnist").by_mass
    assert style_for("folder:photos").ground > style_for("folder:photos").ink
    mnist = draw_strokes(L_SHAPE, 28, style_for("mnist")).float()
    axis = torch.arange(28) + 0.5
    for side in (0, 1):
        assert float((mnist.sum(side) * axis).sum() / mnist.sum()) == pytest.approx(14, abs=0.6)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "empty"),
        ({"strokes": []}, "empty"),
        ({"strokes": [[]]}, "empty"),
        ({"strokes": "x"}, "is not a drawing"),
        ({"strokes": [[[1, 2, 3]]]}, "two numbers"),
        ({"strokes": [[[1, 1e300]]]}, "two numbers"),
        ({"strokes": [[[True, 1]]]}, "two numbers"),
        ({"strokes": [[[0, 0]] * 30000]}, "more than"),
        ({"picture": "http://example.org/x.png"}, "is not a picture"),
        ({"picture": "data:image/png;base64,%%%"}, "damaged"),
        ({"picture": "data:image/png;base64,aGVsbG8="}, "cannot be read"),
    ],
)
def test_drawings_that_are_none_are_refused(value: object, words: str):
    with pytest.raises(MetaSiamError, match=words):
        read_drawing(value, "the pad")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "is not a symbol file"),
        ('{"format": "metasiam-symbols", "schema": 2, "symbols": []}', "another version"),
        ('{"format": "metasiam-symbols", "schema": 1, "symbols": 3}', "not a list"),
        ('{"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": ""}]}', "no name"),
        ('{"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": "a", "drawings": []}]}', "needs 1 to"),
    ],
)
def test_symbol_files_that_are_none_are_refused(text: str, words: str):
    with pytest.raises(MetaSiamError, match=words):
        read_symbol_file(text)


def test_two_symbols_of_one_name_are_refused():
    one = {"name": "a", "drawings": [drawing(CROSS)]}
    with pytest.raises(MetaSiamError, match="two symbols"):
        read_symbols([one, one])


def test_a_drawing_is_the_same_as_itself_and_the_threshold_decides(studio: Studio):
    first, second = Drawing(strokes=(((0.0, 0.0), (1.0, 1.0)),)), Drawing(strokes=(((0.0, 5.0), (0.0, 1.0)),))
    assert studio.compare(first, first)["similarity"] == pytest.approx(1)
    answer = studio.compare(first, second)
    assert answer["same"] == (answer["similarity"] > 0.9) == (answer["probability"] > 0.5)


def test_adaptation_leads_to_an_embedder_for_just_these_symbols(studio: Studio):
    symbols = read_symbols(
        [
            {"name": "l", "drawings": [drawing(L_SHAPE), drawing([[[0, 0], [1, 40], [22, 41]]])]},
            {"name": "x", "drawings": [drawing(CROSS)]},
        ]
    )
    query = symbols[0].drawings[0]
    before = studio.recognise(symbols, query)
    with pytest.raises(MetaSiamError, match="Adapt again"):
        studio.recognise(symbols, query, adapted=True)
    measured = studio.adapt(symbols)
    assert measured["before"]["of"] == measured["after"]["of"] == 1
    after = studio.recognise(symbols, query, adapted=True)
    assert after["guesses"] != before["guesses"]
    assert studio.recognise(symbols, query) == before
    with pytest.raises(MetaSiamError, match="second drawing"):
        studio.adapt(read_symbols([{"name": n, "drawings": [drawing(CROSS)]} for n in "ab"]))


@pytest.fixture(scope="module")
def address(studio: Studio) -> Iterator[str]:
    pytest.importorskip("starlette", reason="the drawing app's extra is not installed")
    pytest.importorskip("uvicorn", reason="the drawing app's extra is not installed")
    from app_server import served

    with served(studio) as url:
        yield url


def post(address: str, path: str, body: bytes, **headers: str) -> tuple[int, dict]:
    request = urllib.request.Request(address + path, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else {"error": text}


def png(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_the_page_comes_with_everything_it_needs_and_a_policy_against_anything_else(address: str):
    for path in ("/", "/page.js", "/asking.js", "/pad.js", "/pictures.js", "/symbols.js", "/page.css", "/icon.svg"):
        with urllib.request.urlopen(address + path, timeout=20) as answer:
            text = answer.read().decode()
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_bad_requests_are_explained_and_the_server_goes_on(address: str):
    pads = {"first": drawing(CROSS), "second": drawing(L_SHAPE)}
    bad = [
        ("/api/compare", json.dumps({**pads, "first": None}).encode(), {}, 422, "left pad is empty"),
        ("/api/compare", json.dumps({**pads, "second": {"picture": png(9000, 9000)}}).encode(), {}, 422, "pixels"),
        ("/api/compare", json.dumps({**pads, "first": {"strokes": [[[1, 10**400]]]}}).encode(), {}, 422, "two numbers"),
        ("/api/compare", b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", {}, 400, "JSON"),
        ("/api/compare", b"x" * (5 << 20), {}, 413, "MiB"),
        ("/api/compare", b"{", {}, 400, "JSON"),
        ("/api/compare", b"[]", {}, 400, "object"),
        ("/api/compare", b"{}", {"Content-Type": "text/plain"}, 415, "JSON"),
        ("/api/symbols", json.dumps({"text": "nonsense"}).encode(), {}, 422, "symbol file"),
        ("/api/recognise", json.dumps({"symbols": [], "query": drawing(CROSS)}).encode(), {}, 422, "no symbols"),
    ]
    for path, body, headers, status, words in bad:
        found, answer = post(address, path, body, **headers)
        assert (found, words in answer["error"]) == (status, True), answer
    status, answer = post(address, "/api/compare", json.dumps(pads).encode())
    assert status == 200
    assert answer["seen"][0].startswith("data:image/png;base64,")


def test_other_host_names_are_refused(address: str):
    for host in ("evil.example", "evil.example:7860", "evil[::1]"):
        status, _ = post(address, "/api/compare", b"{}", Host=host)
        assert status == 400
    for host in ("localhost:7860", "[::1]:7860"):
        status, _ = post(address, "/api/compare", b"{}", Host=host)
        assert status == 422


def test_an_address_that_cannot_be_listened_on_is_refused_with_what_to_do():
    from metasiam.app.server import open_socket

    with pytest.raises(MetaSiamError, match="Pass --host an address of this machine"):
        open_socket("192.0.2.1", 0)  # kept for documentation (RFC 5737): nobody's
    taken = open_socket("127.0.0.1", 0)
    try:
        taken.listen()
        with pytest.raises(MetaSiamError, match="Try --port 0"):
            open_socket("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\N{ZERO WIDTH JOINER}b", "a\N{ZERO WIDTH JOINER}b"),
        ("می\N{ZERO WIDTH NON-JOINER}خواهم", "می\N{ZERO WIDTH NON-JOINER}خواهم"),
        ("\N{NO-BREAK SPACE}a\N{NO-BREAK SPACE} b", "a b"),
        ("hy\N{SOFT HYPHEN}phen\N{RIGHT-TO-LEFT MARK}", "hyphen"),
        ("Jose\N{COMBINING ACUTE ACCENT}", "José"),
    ],
)
def test_names_are_kept_with_joiners_and_without_what_is_not_seen(given: str, kept: str):
    assert read_symbols([{"name": given, "drawings": [drawing(CROSS)]}])[0].name == kept


@pytest.mark.parametrize("name", ["\N{ZERO WIDTH JOINER}", "\N{SOFT HYPHEN}", "a\x07", "\ud800", "a" * 41, 7])
def test_names_that_cannot_be_seen_or_written_are_refused(name: object):
    with pytest.raises(MetaSiamError, match="no name"):
        read_symbols([{"name": name, "drawings": [drawing(CROSS)]}])


def test_the_page_is_told_what_the_server_takes(address: str):
    with urllib.request.urlopen(address + "/api/about", timeout=20) as answer:
        limits = json.load(answer)["limits"]
    read_symbols([{"name": str(place), "drawings": [drawing(CROSS)]} for place in range(limits["symbols"])])
    read_symbols([{"name": "a", "drawings": [drawing(CROSS)] * limits["drawings"]}])
    with pytest.raises(MetaSiamError, match="more than"):
        read_symbols([{"name": str(place), "drawings": [drawing(CROSS)]} for place in range(limits["symbols"] + 1)])
    with pytest.raises(MetaSiamError, match="more than"):
        read_symbols([{"name": "a", "drawings": [drawing(CROSS)] * (limits["drawings"] + 1)}])


def test_a_symbol_file_of_the_largest_size_is_read_and_a_larger_one_refused(address: str):
    text = json.dumps(
        {"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": "a", "drawings": [drawing(CROSS)]}]}
    )
    status, answer = post(address, "/api/symbols", json.dumps({"text": text.ljust(MOST_BYTES)}).encode())
    assert (status, answer["symbols"][0]["name"]) == (200, "a")
    status, answer = post(address, "/api/symbols", json.dumps({"text": text.ljust(MOST_BYTES + 1)}).encode())
    assert status == 422
    assert "Remove some examples" in answer["error"]


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


HEAD = b"POST /api/compare HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"


def test_a_browser_that_goes_away_in_the_middle_of_a_request_prints_nothing(
    address: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    pads = json.dumps({"first": drawing(CROSS), "second": drawing(L_SHAPE)}).encode()
    whole = HEAD.replace(b"1000", b"%d" % len(pads)) + b"\r\n" + pads
    for part in (HEAD[:40], HEAD, HEAD + b"\r\n", HEAD + b"\r\n{", whole):
        with connected(address) as gone:
            gone.sendall(part)
    status, _ = post(address, "/api/compare", pads)
    assert status == 200
    assert "".join(capfd.readouterr()) == ""
    assert caplog.text == ""


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"\r\n", HEAD + b"\r\n{"])
def test_requests_that_never_end_are_given_up(address: str, monkeypatch: pytest.MonkeyPatch, sent: bytes):
    monkeypatch.setattr("metasiam.app.patience.HEAD_SECONDS", 0.3)
    monkeypatch.setattr("metasiam.app.patience.BLOCK_SECONDS", 0.3)
    with connected(address) as opened:
        opened.sendall(sent)
        received = b""
        while block := opened.recv(4096):  # until the server closes; the socket's own limit is an error
            received += block
    in_body = sent.startswith(HEAD + b"\r\n")
    assert received.startswith(b"HTTP/1.1 408") == in_body
    assert in_body or not received


def test_a_body_that_trickles_is_given_up_after_its_time(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metasiam.app.patience.BODY_SECONDS", 0.5)
    with connected(address) as opened:
        opened.sendall(HEAD + b"\r\n")
        opened.settimeout(0.05)
        received = b""
        for _ in range(200):
            opened.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                received = opened.recv(4096)
                break
    assert received.startswith(b"HTTP/1.1 408")


def test_many_requests_at_once_are_all_answered_and_few_at_a_time(address: str, monkeypatch: pytest.MonkeyPatch):
    from metasiam.app import server

    running, most, lock = 0, 0, threading.Lock()

    def slow(studio: Studio, request: dict) -> dict:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return {}

    monkeypatch.setitem(server._ANSWERS, "/api/look", slow)
    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(lambda _: post(address, "/api/look", b'{"drawing": null}')[0], range(40)))
    assert statuses == [200] * 40
    assert most == ANSWERS


STROKES = {
    "ring": [[(0.5 + 0.4 * math.cos(a / 4), 0.5 + 0.4 * math.sin(a / 4)) for a in range(26)]],
    "zigzag": [[(0.1, 0.8), (0.3, 0.2), (0.5, 0.8), (0.7, 0.2), (0.9, 0.8)]],
    "cross": [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
}
SIZE = (320, 240)


def light(kind: str) -> torch.Tensor:
    """How much light falls on each place of a photograph, 0 … 1: float [H, W]."""
    down, across = torch.meshgrid(torch.linspace(0, 1, SIZE[1]), torch.linspace(0, 1, SIZE[0]), indexing="ij")
    from_middle = (across - 0.5) ** 2 + (down - 0.5) ** 2
    return {
        "even": torch.ones_like(down),
        "vignette": 1 - 1.3 * from_middle,
        "side": 0.4 + 0.6 * across,
        "soft corner": 1 - 0.5 * torch.sigmoid((0.7 - across - down) / 0.05),
        "hard corner": torch.where(across + down < 0.8, 0.4, 1.0),
        "phone": torch.where((across - 0.45).abs() + 0 * down < 0.2, 0.5, 1.0) * (down > 0.3) + (down <= 0.3),
    }[kind]


def photograph(shape: list, kind: str, *, board: bool = False) -> Drawing:
    """A drawing with a pen on paper, or with chalk on a board, photographed under a light."""
    page = Image.new("L", SIZE, 0)
    pen = ImageDraw.Draw(page)
    for stroke in shape:
        points = [(SIZE[0] / 2 + (x - 0.5) * 0.8 * SIZE[1], (0.1 + 0.8 * y) * SIZE[1]) for x, y in stroke]
        pen.line(points, fill=255, width=6, joint="curve")
    ink = torch.from_numpy(np.array(page)) / 255
    shown = 0.15 + 0.7 * ink if board else 0.92 - 0.8 * ink
    noise = 4 * torch.randn(ink.shape, generator=torch.Generator().manual_seed(0))
    levels = (255 * shown * light(kind) + noise).clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(levels.numpy()).save(file, "JPEG", quality=85)
    return read_drawing({"picture": data_url(file.getvalue())}, "the pad")


def data_url(data: bytes) -> str:
    return "data:image/any;base64," + base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def shipped() -> Studio:
    return open_studio(device="cpu")


@pytest.mark.parametrize("board", [False, True])
@pytest.mark.parametrize("kind", ["even", "vignette", "side", "soft corner", "hard corner", "phone"])
def test_photographed_drawings_are_told_apart_under_any_light(shipped: Studio, kind: str, board: bool):
    drawn = [Drawing(strokes=tuple(tuple(stroke) for stroke in shape)) for shape in STROKES.values()]
    photographed = [photograph(shape, kind, board=board) for shape in STROKES.values()]
    seen = torch.stack([one.seen(shipped.info.image_size[0], shipped.style) for one in (*photographed, *drawn)])
    rows = embed_pixels(shipped.embedder, shipped.info, seen[:, None])
    same = rows[:3] @ rows.T > shipped.rule.threshold
    expected = torch.eye(3, dtype=torch.bool).repeat(1, 2)
    assert torch.equal(same, expected)


@pytest.mark.parametrize("kind", ["even", "vignette", "side", "soft corner", "hard corner", "phone"])
def test_paper_with_nothing_drawn_on_it_is_empty_under_any_light(shipped: Studio, kind: str):
    with pytest.raises(MetaSiamError, match="empty"):
        shipped.look(photograph([], kind))


def test_a_filled_shape_stays_filled_where_the_light_is_uneven():
    page = torch.full((240, 240), 235.0)
    page[70:170, 70:170] = 30
    lit = page * (0.5 + 0.5 * torch.linspace(0, 1, 240))
    assert bool((centre_ink(lit.to(torch.uint8), 28)[6:22, 6:22] > 240).all())


def on_picture(image: Image.Image, kind: str = "PNG") -> Drawing:
    file = io.BytesIO()
    image.save(file, kind)
    return read_drawing({"picture": data_url(file.getvalue())}, "the pad")


def l_mask() -> torch.Tensor:
    mask = torch.zeros(90, 120, dtype=torch.bool)
    mask[20:60, 30:34] = mask[56:60, 30:50] = True
    return mask


@pytest.mark.parametrize("most", [4095, 65535])
@pytest.mark.parametrize("dark", [True, False])
def test_a_grey_picture_of_16_bits_is_seen_as_one_of_8(most: int, dark: bool):
    mask = ~l_mask() if dark else l_mask()
    in_8 = on_picture(Image.fromarray(np.where(mask, 230, 20).astype(np.uint8)))
    in_16 = on_picture(Image.fromarray(np.where(mask, most * 230 // 255, most * 20 // 255).astype(np.uint16)))
    difference = in_16.seen(28, STYLES["strokes"]).int() - in_8.seen(28, STYLES["strokes"]).int()
    assert int(difference.abs().max()) <= 2


@pytest.mark.parametrize("ink", [(255, 255, 255), (255, 255, 230), (0, 0, 0), (200, 30, 30)])
def test_ink_of_any_colour_on_a_transparent_ground_is_seen(ink: tuple[int, int, int]):
    mask = l_mask().numpy()
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (*ink, 255)
    seen = on_picture(Image.fromarray(pixels)).seen(28, STYLES["strokes"])
    black = on_picture(Image.fromarray(np.where(mask, 0, 255).astype(np.uint8))).seen(28, STYLES["strokes"])
    assert int((seen.int() - black.int()).abs().max()) <= 2


def test_white_paper_with_rounded_transparent_corners_stays_paper():
    mask = l_mask().numpy()
    pixels = np.full((*mask.shape, 4), 255, np.uint8)
    pixels[mask] = (0, 0, 0, 255)
    pixels[:8, :8] = pixels[-8:, -8:] = 0
    seen = on_picture(Image.fromarray(pixels)).seen(28, STYLES["strokes"])
    black = on_picture(Image.fromarray(np.where(mask, 0, 255).astype(np.uint8))).seen(28, STYLES["strokes"])
    assert torch.equal(seen, black)
