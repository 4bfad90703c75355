"use strict";
const byId = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en-US", { maximumFractionDigits: digits });
const percent = (share) => `${number(share * 100, share < 0.1 ? 1 : 0)}\u00a0%`;
const dollars = (value) => (value < 0 ? "−$" : "$") + Math.abs(value).toLocaleString("en-US",
  { minimumFractionDigits: 2, maximumFractionDigits: Math.abs(value) < 10 ? 4 : 2 });

function span(seconds) {
  if (seconds < 10) return `${number(seconds, 1)} s`;
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7200) return `${number(seconds / 60, seconds < 600 ? 1 : 0)} min`;
  return `${number(seconds / 3600, 1)} h`;
}

// Texts become text nodes and attributes only: nothing in this page is ever parsed as markup.
function make(name, attributes, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...inside.filter((one) => one !== null && one !== undefined));
  return element;
}

function draw(name, attributes, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

// A round number of steps, each 1, 2 or 5 times a power of ten, or of the clock's own units.
function step(most, parts) {
  const raw = most / parts, power = 10 ** Math.floor(Math.log10(raw || 1));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
}
const CLOCK = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const clockStep = (most, parts) => CLOCK.find((one) => one >= most / parts) || step(most, parts);

function moment(seconds, every) {
  if (seconds === 0) return "0";
  if (every < 60) return `${number(seconds)} s`;
  return every < 3600 ? `${number(seconds / 60)} min` : `${number(seconds / 3600, 1)} h`;
}

class Plot {
  constructor(place, report) {
    this.place = place;
    this.limits = report.limits;
    this.points = report.samples.rows.map(([at, finished, pace, tasks, slots, requests, most, spent]) => ({
      at, finished, pace, tasks, slots, requests, most, spent,
      slotsShare: slots ? tasks / slots : 0, requestsShare: most ? requests / most : 0 }));
    this.chosen = this.points.length - 1;
    this.end = Math.max(this.points[this.chosen].at, 0.001);
    for (const [name, value] of Object.entries({ tabindex: 0, role: "slider",
      "aria-label": "Instant of the run", "aria-valuemin": 0, "aria-valuemax": this.chosen })) {
      place.setAttribute(name, value);
    }
    this.legend(report);
    place.addEventListener("pointermove", (event) => this.point(event));
    place.addEventListener("pointerdown", (event) => this.point(event));
    place.addEventListener("pointerleave", () => this.show(this.points.length - 1));
    place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.render()).observe(place);
  }

  legend(report) {
    const { mean_per_minute: mean, peak_per_minute: peak } = report.throughput;
    const used = ({ limit, mean_share: most, peak_share: top }) =>
      `${percent(most)} of ${number(limit || 0)}, peak ${percent(top)}`;
    byId("legend").append(...[
      ["pace", "Items a minute", `${number(mean)}, peak ${number(peak)}`],
      ["tasks", "Tasks in flight", used(this.limits.tasks)],
      ["requests", "Requests a minute", used(this.limits.requests)],
    ].map(([name, label, about]) => make("li", { class: name },
      make("span", {}, label), " ", make("small", {}, about))));
  }

  render() {
    const width = this.place.clientWidth;
    if (width === 0 || width === this.width) return;
    this.width = width;
    const left = 44, right = 8, high = 96, low = 84, gap = 26;
    this.x = (at) => left + at / this.end * (width - left - right);
    const most = Math.max(1, ...this.points.map((one) => one.pace));
    const shares = Math.max(1, ...this.points.map((one) => Math.max(one.slotsShare, one.requestsShare)));
    const every = step(most, 3), top = Math.ceil(most / every) * every;
    this.yPace = (value) => 8 + (1 - value / top) * high;
    this.yShare = (value) => 8 + high + gap + (1 - value / shares) * low;
    const bottom = 8 + high + gap + low, lines = [];
    const level = (y, words, name = "grid") => lines.push(
      draw("line", { class: name, x1: left, x2: width - right, y1: y, y2: y }),
      draw("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, words));
    for (let value = 0; value <= top; value += every) level(this.yPace(value), number(value, 1));
    for (const value of [0, 0.5]) level(this.yShare(value), percent(value));
    level(this.yShare(1), percent(1), "full");
    const tick = clockStep(this.end, Math.max(2, Math.floor(width / 110)));
    for (let at = 0; at <= this.end; at += tick) {
      const last = this.x(at) > width - 40;
      lines.push(draw("text", { x: this.x(at), y: bottom + 18,
        "text-anchor": at === 0 ? "start" : last ? "end" : "middle" }, moment(at, tick)));
    }
    const path = (y) => this.points.map((one, place) =>
      `${place ? "L" : "M"}${this.x(one.at).toFixed(1)} ${y(one).toFixed(1)}`).join("");
    const pace = path((one) => this.yPace(one.pace));
    const curve = (name, d) => draw("path", { class: `curve ${name}`, d });
    const ends = `L${this.x(this.end).toFixed(1)} ${this.yPace(0)}L${this.x(this.points[0].at).toFixed(1)} ${this.yPace(0)}Z`;
    this.mark = draw("g", {});
    this.bottom = bottom;
    this.place.replaceChildren(draw("svg", { width, height: bottom + 24, viewBox: `0 0 ${width} ${bottom + 24}`,
      "aria-hidden": "true" }, ...lines, draw("path", { class: "area pace", d: pace + ends }), curve("pace", pace),
      curve("requests", path((one) => this.yShare(one.requestsShare))),
      curve("tasks", path((one) => this.yShare(one.slotsShare))), this.mark));
    this.show(this.chosen);
  }

  show(place) {
    this.chosen = Math.max(0, Math.min(this.points.length - 1, place));
    const one = this.points[this.chosen], x = this.x(one.at);
    const dot = (name, y) => draw("circle", { class: name, cx: x, cy: y, r: 4 });
    this.mark.replaceChildren(draw("line", { class: "now", x1: x, x2: x, y1: 8, y2: this.bottom }),
      dot("pace", this.yPace(one.pace)), dot("requests", this.yShare(one.requestsShare)),
      dot("tasks", this.yShare(one.slotsShare)));
    const words = `After ${span(one.at)}: ${number(one.finished)} finished, ${number(one.pace)} a minute · ` +
      `${number(one.tasks)} of ${number(one.slots)} tasks · ${number(one.requests)} of ` +
      `${number(one.most)} requests · ${dollars(one.spent)}`;
    byId("instant").textContent = words;
    this.place.setAttribute("aria-valuenow", this.chosen);
    this.place.setAttribute("aria-valuetext", words);
  }

  point(event) {
    const at = event.clientX - this.place.getBoundingClientRect().left;
    const away = this.points.map((one) => Math.abs(this.x(one.at) - at));
    this.show(away.indexOf(Math.min(...away)));
  }

  key(event) {
    const last = this.points.length - 1, far = Math.max(1, Math.round(last / 20));
    const to = { ArrowLeft: this.chosen - 1, ArrowRight: this.chosen + 1, ArrowDown: this.chosen - 1,
      ArrowUp: this.chosen + 1, PageDown: this.chosen - far, PageUp: this.chosen + far, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.show(to);
  }
}
