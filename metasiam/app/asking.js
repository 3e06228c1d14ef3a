// Asking the server, and saying so when that fails.

export const find = (id) => document.getElementById(id);

export function complain(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

let pending = 0;

// Assistive software is told while answers are on their way.
function waiting(change) {
  pending += change;
  document.body.setAttribute("aria-busy", String(pending > 0));
}

export async function ask(path, body) {
  waiting(1);
  try {
    return await answerTo(path, body);
  } finally {
    waiting(-1);
  }
}

async function answerTo(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The drawing app does not answer. Is metasiam draw still running?");
  }
  const value = await response.json().catch(() => ({ error: "The answer could not be read." }));
  if (!response.ok) throw new Error(value.error[0].toUpperCase() + value.error.slice(1));
  return value;
}

// Live answers: one question under way at a time, and then the newest. An answer that arrives takes back this
// question's own complaint only: what an action has just said stays.
export function live(question) {
  let running = false;
  let again = false;
  let said = "";
  return async function next() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try {
        await question();
        if (said && find("message").textContent === said) complain("");
        said = "";
      } catch (error) {
        said = error.message;
        complain(said);
      }
    } while (again);
    running = false;
  };
}
