import { Outbox, newToken } from "./outbox.js";
import { View } from "./view.js";

const get = (id) => document.getElementById(id);
const view = new View(get("stage"), get("photo"), get("marks"));
const buttons = [...document.querySelectorAll("#answers button")];
const WORDS = { first: "A closer", second: "B closer", unsure: "can’t tell", bad: "bad pair" };
const KEYS = { a: "first", 1: "first", arrowleft: "first", b: "second", 2: "second", arrowright: "second",
  c: "unsure", 3: "unsure", arrowdown: "unsure", x: "bad", 4: "bad" };
const WAITING = {
  offline: "The server does not answer. Your answer is kept here and is sent as soon as it is back.",
  error: "The server could not save your answer. It is kept here and sent again.",
  login: "You are logged out. Your answer is kept here; log in again in this browser and it is sent.",
};

const outbox = new Outbox({
  key: `datk-bench ${document.body.dataset.bench} ${document.body.dataset.person}`,
  csrf: document.body.dataset.csrf,
  onwaiting: (why) => (why ? warn(WAITING[why], why === "login") : calm()),
});
let turn = null; // what the server said last
let own = null; // {picture, points} while a pair of one's own is made
let shownAt = 0;
let open = false; // whether a key may answer: the pair is on the screen and nothing is being saved
let look = 0;

function calm() {
  get("banner").hidden = true;
}

function warn(text, login = false) {
  const banner = get("banner");
  banner.textContent = text;
  banner.classList.toggle("bad", login);
  if (login) {
    const link = document.createElement("a");
    link.href = "/login";
    link.textContent = " Log in";
    banner.append(link);
  }
  banner.hidden = false;
}

function say(text) {
  get("say").textContent = text;
}

function allow(yes) {
  open = yes;
  const sides = own ? own.points.length === 2 : yes;
  for (const button of buttons) {
    const side = button.dataset.choice === "first" || button.dataset.choice === "second";
    button.disabled = !(yes && (own ? side && sides : true));
  }
  get("undo").disabled = !(own?.points.length || turn?.last_answer_id);
  document.body.dataset.ready = yes ? (own ? `own-${own.points.length}` : `pair-${turn?.pair?.id}`) : "";
}

async function showTurn(next) {
  count(next);
  own = null;
  look = 0;
  allow(false);
  get("stage").classList.remove("author");
  get("leave").hidden = true;
  get("question").textContent = "Which point is closer to the camera?";
  if (!turn.pair) return showEmpty();
  get("empty").hidden = true;
  const pair = turn.pair;
  if (!(await showPhoto(pair.image_id, pair.height, pair.width, pair.scene)) || turn.pair !== pair) return;
  showPoints({ first: pair.first, second: pair.second });
  get("photo").alt = `photograph, ${pair.scene.replaceAll("_", " ")}`;
  shownAt = performance.now();
  allow(true);
  if (turn.upcoming && turn.upcoming.image_id !== pair.image_id) new Image().src = `/photo/${turn.upcoming.image_id}`;
}

function showEmpty() {
  view.clear();
  showPoints({});
  get("scene").hidden = true;
  const [title, text] = turn.done
    ? ["Nothing left for you", "Every pair that needs you is answered. Others may still be checking. You can add pairs of your own."]
    : ["No pairs yet", "Choose a picture and add pairs of your own, or let experts propose some with “datk bench propose”."];
  const heading = Object.assign(document.createElement("h2"), { textContent: title });
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Choose a picture" });
  button.addEventListener("click", choosePicture);
  get("empty").replaceChildren(heading, Object.assign(document.createElement("p"), { textContent: text }), button);
  get("empty").hidden = false;
  get("undo").disabled = !turn.last_answer_id;
  document.body.dataset.ready = "empty";
}

let loaded = null;
async function showPhoto(id, height, width, scene) {
  get("scene").textContent = scene.replaceAll("_", " ");
  get("scene").hidden = false;
  try {
    if (loaded !== id || !view.size) await view.load(`/photo/${id}`, height, width);
    else view.fit();
    loaded = id;
    return true;
  } catch (error) {
    loaded = null;
    const words = error.message.startsWith("This browser") ? error.message : "The picture cannot be loaded. Reload the page.";
    warn(words);
    return false;
  }
}

function showPoints(points) {
  view.show(points);
  view.loupe(get("loupe-first"), points.first, "#4cb2ff");
  view.loupe(get("loupe-second"), points.second, "#ff9a3c");
}

async function exchange(path, body, words) {
  allow(false);
  say("Saving…");
  await settle(await outbox.send(path, body), words);
}

// After the server's word: on to the next pair, or to the next pair of one's own on the same picture.
async function settle(reply, words) {
  const picture = own?.picture;
  const next = reply.turn ?? (await fetchTurn());
  if (picture) {
    count(next);
    await startOwn(picture);
  } else await showTurn(next);
  say(reply.refused ? `Not saved: ${reply.refused}.` : words);
}

function count(next) {
  turn = next;
  get("bar").max = Math.max(1, turn.done + turn.left);
  get("bar").value = turn.done;
  get("count").textContent = `${turn.done} done, ${turn.left} left`;
  document.title = `${turn.left} left: ${document.body.dataset.bench}`;
  for (const button of buttons) button.classList.remove("chosen");
}

async function fetchTurn() {
  for (;;) {
    try {
      const response = await fetch("/api/turn");
      if (response.status === 401) {
        location.href = "/login";
        return new Promise(() => {});
      }
      if (response.ok) {
        calm();
        return await response.json();
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    warn("The server does not answer. Trying again.");
    await new Promise((done) => setTimeout(done, 1200));
  }
}

function answer(choice) {
  if (!open) return;
  if (own) return answerOwn(choice);
  if (!turn?.pair) return;
  document.querySelector(`[data-choice=${choice}]`).classList.add("chosen");
  const seconds = Math.min(86400, (performance.now() - shownAt) / 1000);
  exchange("/api/answers", { token: newToken(), pair_id: turn.pair.id, choice, seconds }, `Saved: ${WORDS[choice]}.`);
}

function undo() {
  if (own?.points.length) {
    if (!open) return;
    own.points.pop();
    return showOwn();
  }
  if (!turn?.last_answer_id || outbox.waiting) return;
  exchange("/api/undo", { answer_id: turn.last_answer_id }, "Taken back.");
}

// A pair of one's own

async function startOwn(picture) {
  if (!picture || outbox.waiting) return;
  own = { picture, points: [], token: newToken() };
  allow(false);
  get("empty").hidden = true;
  get("leave").hidden = false;
  get("stage").classList.add("author");
  if (!(await showPhoto(picture.id, picture.height, picture.width, picture.scene)) || own?.picture !== picture) return;
  view.cross = null;
  showOwn();
  get("stage").focus();
}

function showOwn() {
  const [first, second] = own.points;
  const cross = view.cross;
  showPoints({ ...(first && { first }), ...(second && { second }) });
  view.cross = own.points.length < 2 ? (cross ?? [Math.floor(own.picture.height / 2), Math.floor(own.picture.width / 2)]) : null;
  view.draw();
  get("question").textContent = ["Click the first point", "Click the second point", "Which point is closer?"][own.points.length];
  say(own.points.length < 2 ? "Or move the cross with the arrows and press Enter." : "A pair the models could get wrong is worth most.");
  allow(true);
}

function addPoint(point) {
  if (!own || !open || !point || own.points.length === 2) return;
  if (own.points[0]?.join() === point.join()) return say("That is the same pixel.");
  own.points.push(point);
  showOwn();
}

function answerOwn(choice) {
  if (own.points.length < 2 || (choice !== "first" && choice !== "second")) return;
  const [first, second] = own.points;
  const body = { token: own.token, image_id: own.picture.id, first, second, choice };
  exchange("/api/pairs", body, "Your pair is saved. Another on this picture, P for the next picture, Esc for the queue.");
}

let known = null;
async function pictureList() {
  const response = await fetch("/api/pictures");
  if (!response.ok) throw new Error(`status ${response.status}`);
  known = (await response.json()).pictures;
  return known;
}

// On the picture that is shown; without one, choose.
async function ownHere() {
  if (own) return;
  if (!turn?.pair) return choosePicture();
  const pictures = known ?? (await pictureList());
  await startOwn(pictures.find((picture) => picture.id === turn.pair.image_id));
}

async function choosePicture() {
  const rows = new Map();
  for (const picture of await pictureList()) {
    const title = picture.scene.replaceAll("_", " ") + (picture.by_hand ? " (people only)" : "");
    if (!rows.has(title)) rows.set(title, []);
    rows.get(title).push(picture);
  }
  const parts = [];
  for (const [title, pictures] of rows) {
    const row = Object.assign(document.createElement("div"), { className: "row" });
    for (const picture of pictures) {
      const button = Object.assign(document.createElement("button"), { type: "button", title: picture.name });
      const image = Object.assign(document.createElement("img"), { src: `/thumb/${picture.id}`, alt: "", loading: "lazy" });
      const pairs = Object.assign(document.createElement("small"), { textContent: `${picture.pairs} pair${picture.pairs === 1 ? "" : "s"}` });
      button.append(image, picture.name, pairs);
      button.addEventListener("click", () => {
        get("pictures").close();
        startOwn(picture);
      });
      row.append(button);
    }
    parts.push(Object.assign(document.createElement("h3"), { textContent: title }), row);
  }
  get("grid").replaceChildren(...parts);
  get("pictures").showModal();
}

async function leaveOwn() {
  if (own && open) await showTurn(await fetchTurn());
}

// Keys and buttons

function lookNext() {
  const points = Object.values(view.points);
  look = (look + 1) % (points.length + 1);
  if (look === 0) view.fit();
  else view.lookAt(points[look - 1]);
}

function moveCross(key, far) {
  const step = far ? 10 : 1;
  const [dr, dc] = { arrowup: [-1, 0], arrowdown: [1, 0], arrowleft: [0, -1], arrowright: [0, 1] }[key];
  const unit = Math.max(1, Math.round(step / Math.max(view.scale, 0.05)));
  const [height, width] = view.size;
  view.cross = [Math.min(height - 1, Math.max(0, view.cross[0] + dr * unit)), Math.min(width - 1, Math.max(0, view.cross[1] + dc * unit))];
  view.draw();
}

const COMMANDS = { u: undo, backspace: undo, z: lookNext, "+": () => view.zoom(1.4), "=": () => view.zoom(1.4), "-": () => view.zoom(1 / 1.4),
  0: () => view.fit(), n: ownHere, p: choosePicture, "?": () => get("guide").showModal(), escape: leaveOwn };

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z") {
    event.preventDefault();
    return undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = key.startsWith("arrow");
  if (own && own.points.length < 2 && view.cross && view.size) {
    if (arrow) {
      event.preventDefault();
      return moveCross(key, event.shiftKey);
    }
    if (key === "enter" && document.activeElement === get("stage")) return addPoint(view.cross);
  }
  if (arrow && event.shiftKey) {
    event.preventDefault();
    const [dx, dy] = { arrowup: [0, 80], arrowdown: [0, -80], arrowleft: [80, 0], arrowright: [-80, 0] }[key];
    return view.move(dx, dy);
  }
  if (key in KEYS) {
    event.preventDefault();
    if (!event.repeat) answer(KEYS[key]);
  } else if (key in COMMANDS) {
    event.preventDefault();
    if (!event.repeat || "+-=".includes(key)) COMMANDS[key]();
  }
});

for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.choice));
for (const [id, act] of Object.entries({ undo, own: ownHere, choose: choosePicture, leave: leaveOwn, in: () => view.zoom(1.4),
  out: () => view.zoom(1 / 1.4), fit: () => view.fit(), help: () => get("guide").showModal() }))
  get(id).addEventListener("click", act);
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
view.onpixel = addPoint;

const late = await outbox.flush();
if (late) await settle(late, "Saved what had waited.");
else await showTurn(await fetchTurn());
