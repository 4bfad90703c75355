const NUMBER = 0, STATE = 1, PROMPT = 3, KEY = 4, ID = 5, COST = 6, FAILURE = 11, KEPT = 13;
const report = JSON.parse(byId("report").textContent), rows = JSON.parse(byId("rows").textContent);
const sheet = new Sheet(byId("sheet"), byId("tiles"));
const states = Object.keys(STATES).filter((state) => report.items.states[state]);
const folded = (text) => text.normalize("NFKC").toLowerCase();

function facts() {
  const { items, money, times, throughput } = report, { states: counts } = items;
  const made = counts.downloaded + counts.success, list = [];
  const fact = (name, value, about) => list.push(make("div", {}, make("dt", {}, name),
    make("dd", {}, value, about ? make("small", {}, ` ${about}`) : null)));
  fact("Items", number(items.total), `${number(made)} made, ${number(items.files)} files`);
  const estimated = money.estimated === null ? [] : [`of ${dollars(money.estimated)} estimated`];
  const earlier = money.spent + money.uncertain - money.spent_in_this_run;
  if (times.started_at && earlier > 0.00001) estimated.push(`${dollars(earlier)} in earlier runs`);
  fact("Spent", dollars(money.spent), estimated.join(", "));
  if (money.uncertain) fact("Perhaps charged", dollars(money.uncertain), `${number(counts.uncertain)} uncertain`);
  if (money.balance_difference !== null) {
    fact("Balance", dollars(money.balance_after), `${dollars(money.balance_difference)} less than before`);
  }
  if (times.started_at) fact("This run", span(times.seconds), throughput.mean_per_minute ? `${number(throughput.mean_per_minute)} a minute` : "");
  if (times.mean_task_seconds !== null) fact("A task took", span(times.mean_task_seconds), "on average");
  byId("facts").append(...list);
  byId("exit").textContent = report.exit;
  byId("note").textContent = report.note;
}

function controls() {
  byId("states").append(...states.flatMap((state) => [
    make("input", { type: "checkbox", id: `is-${state}`, value: state }),
    make("label", { for: `is-${state}` }, STATES[state][0], make("b", {}, number(report.items.states[state])))]));
  byId("family").append(...Object.entries(report.items.failures).map(([family, count]) =>
    make("option", { value: family }, `${family} ${number(count)}`)));
  byId("family").hidden = !Object.keys(report.items.failures).length;
}

const amount = (id) => (byId(id).value === "" ? null : Number(byId(id).value));

function chosen() {
  return { states: states.filter((state) => byId(`is-${state}`).checked), text: byId("text").value.trim(),
    family: byId("family").value, min: amount("min"), max: amount("max") };
}

function fits({ states: wanted, text, family, min, max }) {
  const tests = [], words = folded(text).split(/\s+/).filter(Boolean);
  if (wanted.length) tests.push((row) => wanted.includes(row[STATE]));
  if (family) tests.push((row) => row[FAILURE] && row[FAILURE][0] === family);
  if (min !== null) tests.push((row) => typeof row[COST] === "number" && row[COST] >= min);
  if (max !== null) tests.push((row) => typeof row[COST] === "number" && row[COST] <= max);
  if (words.length) {
    tests.push((row) => {
      row.text ||= folded(`${row[PROMPT]}\n${row[KEY]}\n${row[ID] || ""}\n${row[KEPT] || ""}`);
      return words.every((word) => row.text.includes(word));
    });
  }
  return tests.length ? (row) => tests.every((test) => test(row)) : null;
}

function apply() {
  const filter = fits(chosen()), found = filter ? rows.filter(filter) : rows;
  byId("count").textContent = filter ? `${number(found.length)} of ${number(rows.length)}` : `${number(rows.length)} items`;
  byId("clear").disabled = !filter;
  byId("none").hidden = found.length > 0 || !rows.length;
  sheet.show(found);
}

function changed() {
  apply();
  remember();
  // A new choice begins at its first tile.
  const above = byId("filters").getBoundingClientRect();
  const over = sheet.top - (getComputedStyle(byId("filters")).position === "sticky" ? above.height : 0);
  if (above.top <= 0 && over < 0) scrollBy(0, over);
}

function remember() {
  const { states: wanted, text, family, min, max } = chosen(), kept = new URLSearchParams();
  wanted.forEach((state) => kept.append("state", state));
  for (const [name, value] of Object.entries({ text, family, min, max })) {
    if (value !== "" && value !== null) kept.set(name, value);
  }
  const hash = kept.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? `#${hash}` : location.href.split("#")[0]);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1)), wanted = kept.getAll("state");
  states.forEach((state) => { byId(`is-${state}`).checked = wanted.includes(state); });
  byId("text").value = kept.get("text") || "";
  byId("family").value = kept.get("family") || "";
  if (byId("family").selectedIndex < 0) byId("family").value = "";
  for (const id of ["min", "max"]) byId(id).value = Number.isFinite(Number(kept.get(id))) ? kept.get(id) : "";
  apply();
}

facts();
controls();
if (report.samples.rows.length > 1) {
  byId("course").hidden = false;
  byId("course").open = innerWidth > 640; // on a phone the pictures come first
  new Plot(byId("plot"), report);
}
recall();
byId("filters").addEventListener("input", changed);
byId("filters").addEventListener("reset", () => setTimeout(changed));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", recall);
