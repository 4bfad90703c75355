const PLACES = ["number", "state", "model", "prompt", "key", "id", "cost", "seconds", "files", "line", "resumed",
  "failure", "urls", "kept"];
const STATES = {
  downloaded: ["Done", ""],
  success: ["Not downloaded", "Made, and not downloaded. The service keeps files for 15 days."],
  failed: ["Failed", "The task failed."],
  uncertain: ["Uncertain", "The submit was sent and its answer is unknown: a task may have been bought. " +
    "None is bought again unless you ask for it."],
  unbought: ["Not bought", "Nothing was bought for it."],
  unfinished: ["Unfinished", "Its task was not over when the run ended. The same command goes on from here."],
};
const ICONS = {
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  done: ["M4 12l6 6L20 6"],
  video: ["M3 5h18v14H3z", "M10 9l5 3-5 3z"],
  audio: ["M9 18V6l10-2v12", "M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z", "M19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z"],
  file: ["M6 3h8l5 5v13H6z", "M14 3v5h5"],
};
const KINDS = Object.fromEntries([
  ["image", "png jpg jpeg webp gif avif svg bmp"], ["video", "mp4 webm mov mkv m4v"],
  ["audio", "mp3 wav ogg flac m4a aac opus"],
].flatMap(([kind, endings]) => endings.split(" ").map((ending) => [ending, kind])));
const SHOWN = 4; // files in one frame

const item = (row) => Object.fromEntries(PLACES.map((name, place) => [name, row[place] ?? null]));
const icon = (name) => draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" },
  ...ICONS[name].map((d) => draw("path", { d })));
const fileName = (link) => {
  const name = link.slice(link.lastIndexOf("/") + 1);
  try { return decodeURIComponent(name); } catch { return name; }
};
const kindOf = (link) => KINDS[link.slice(link.lastIndexOf(".") + 1).toLowerCase()] || "file";

function placeholder(kind, words) {
  return make("span", { class: "file" }, icon(kind), make("span", {}, words));
}

function picture(link, words) {
  const image = make("img", { alt: words, loading: "lazy", decoding: "async", src: link });
  image.addEventListener("error", () =>
    image.replaceWith(placeholder("file", `${fileName(link)} cannot be shown`)), { once: true });
  return image;
}

function file(link, place, all, prompt) {
  const kind = kindOf(link), which = all > 1 ? ` ${place + 1} of ${all}` : "";
  return make("a", { href: link, target: "_blank", rel: "noopener", "aria-label": `Open ${kind}${which}: ${prompt}` },
    kind === "image" ? picture(link, prompt) : placeholder(kind, fileName(link)));
}

function why(one) {
  const [label, words] = STATES[one.state];
  const [, code, message] = one.failure || [null, "", words];
  const links = (one.urls || []).map((url, place) => make("a",
    { href: url, target: "_blank", rel: "noopener noreferrer" }, `File ${place + 1} at the service`));
  return make("div", { class: "why" }, make(code ? "code" : "b", {}, code || label), make("p", {}, message || words), ...links);
}

function frame(one) {
  const all = one.files.length;
  if (all === 0) return make("div", { class: "frame" }, why(one));
  const box = make("div", { class: all > 1 ? "frame many" : "frame" },
    ...one.files.slice(0, SHOWN).map((link, place) => file(link, place, all, one.prompt)));
  if (all > SHOWN) box.lastChild.append(make("span", { class: "more" }, `+${all - SHOWN}`));
  return box;
}

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // Not everywhere may a page from a disk use the clipboard's own interface.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

async function copy(text, code, button) {
  const done = await copied(text, code);
  byId("said").textContent = done ? `Copied ${text}` : `${text} is selected, and yours to copy`;
  if (!done) return;
  button.replaceChildren(icon("done"));
  button.classList.add("done");
  setTimeout(() => { button.replaceChildren(icon("copy")); button.classList.remove("done"); }, 1500);
}

function ids(one) {
  const about = [`item ${one.number}`, one.line && `line ${one.line}`, `key ${one.key}`, one.resumed && "from an earlier run", one.kept];
  const place = make("span", { title: about.filter(Boolean).join(", ") }, `${one.resumed ? "↺ " : ""}#${number(one.number)}`);
  if (!one.id) return make("div", { class: "ids" }, make("code", {}, "no task"), place);
  const button = make("button", { type: "button", title: "Copy the task's id", "aria-label": `Copy ${one.id}` }, icon("copy"));
  const code = make("code", { title: one.id }, one.id);
  button.addEventListener("click", () => copy(one.id, code, button));
  return make("div", { class: "ids" }, code, button, place);
}

function tile(one, place, all) {
  const details = [one.cost === null ? null : dollars(one.cost), one.seconds === null ? null : span(one.seconds)]
    .filter((word) => word !== null);
  return make("li", { class: `tile ${one.state}`, "aria-posinset": place + 1, "aria-setsize": all },
    frame(one), make("div", { class: "about" },
      make("p", { class: "prompt", title: one.prompt }, one.prompt),
      make("p", { class: "meta" }, make("b", { title: one.model }, one.model),
        ...details.map((word) => make("span", {}, word))),
      ids(one)));
}

// Only the rows of tiles in sight, and some around them, are in the document.
class Sheet {
  constructor(place, list) {
    this.place = place;
    this.list = list;
    this.rows = [];
    this.tiles = new Map();
    this.high = 0;
    addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(place);
  }

  soon() {
    this.asked ||= requestAnimationFrame(() => { this.asked = 0; this.fill(); });
  }

  get top() { return this.place.getBoundingClientRect().top; }

  show(rows) {
    this.rows = rows;
    this.tiles.clear();
    this.list.replaceChildren();
    this.measure();
  }

  resized() {
    if (this.place.clientWidth === this.width) return;
    // What was the first tile in sight is the first one afterwards.
    const above = -this.top, first = Math.floor(above / this.high) * this.columns;
    this.measure();
    if (above > 0 && this.high) scrollBy(0, this.top + Math.floor(first / this.columns) * this.high);
  }

  measure() {
    this.width = this.place.clientWidth;
    const narrowest = this.width < 560 ? 150 : 216, gap = parseFloat(getComputedStyle(this.list).rowGap);
    this.columns = Math.max(1, Math.floor((this.width + gap) / (narrowest + gap)));
    this.list.style.setProperty("--columns", this.columns);
    if (this.rows.length && !this.list.firstChild) this.put(0, 1);
    this.high = this.list.firstChild ? this.list.firstChild.getBoundingClientRect().height + gap : 0;
    this.place.style.height = `${Math.max(0, Math.ceil(this.rows.length / this.columns) * this.high - gap)}px`;
    this.shown = null;
    this.fill();
  }

  fill() {
    if (!this.high) return;
    const view = innerHeight, around = Math.max(view / 2, this.high);
    const last = Math.ceil(this.rows.length / this.columns);
    const from = Math.min(last - 1, Math.max(0, Math.floor((-this.top - around) / this.high)));
    const to = Math.max(from + 1, Math.min(last, Math.ceil((-this.top + view + around) / this.high)));
    const wanted = `${from} ${to}`;
    if (wanted === this.shown) return;
    this.shown = wanted;
    this.list.style.transform = `translateY(${from * this.high}px)`;
    this.put(from * this.columns, Math.min(this.rows.length, to * this.columns));
  }

  // Tiles that stay are kept as they are, so that pictures do not flicker and the focus is not lost.
  put(from, to) {
    for (const [place, element] of this.tiles) {
      if (place < from || place >= to) { element.remove(); this.tiles.delete(place); }
    }
    let before = null;
    for (let place = to - 1; place >= from; place -= 1) {
      let element = this.tiles.get(place);
      if (!element) {
        element = tile(item(this.rows[place]), place, this.rows.length);
        this.tiles.set(place, element);
        this.list.insertBefore(element, before);
      }
      before = element;
    }
  }
}
