// Pictures are made as small as the server keeps them, before they are sent or stored.

const SMALL = 200_000; // bytes; such files go to the server as they are
const MOST_PIXELS = 300e6; // that a browser is asked to decode

export const isLarge = (dataUrl) => dataUrl.length > SMALL * 1.4;

// A file as a data URL, of at most `side` pixels on a side where the file is large.
export async function pictureOf(file, side) {
  if (file.size <= SMALL) return await asDataUrl(file);
  const url = URL.createObjectURL(file);
  try {
    return await smaller(url, side);
  } catch (error) {
    throw new Error(`${file.name} ${error.message}. Open a PNG or JPEG file of usual size.`);
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function loaded(url) {
  const image = new Image();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("cannot be read by this browser"));
    image.src = url;
  });
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width * height > MOST_PIXELS) throw new Error(`has ${width}×${height} pixels`);
  return image;
}

function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read. Open another file.`));
    reader.readAsDataURL(file);
  });
}

// The picture at a URL, upright and small, as a data URL. What is transparent stays so.
export async function smaller(url, side) {
  const image = await loaded(url);
  const scale = Math.min(1, side / Math.max(image.naturalWidth, image.naturalHeight));
  const size = (length) => Math.max(1, Math.round(length * scale));
  const [width, height] = [size(image.naturalWidth), size(image.naturalHeight)];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  for (let alpha = 3; alpha < pixels.length; alpha += 4) if (pixels[alpha] < 255) return canvas.toDataURL("image/png");
  return canvas.toDataURL("image/jpeg", 0.9);
}
