"use strict";
// Shows what results hold; decides nothing. The state (filter, sort, open row) lives in the address, so a view is a link:
//   #<row id>                     one row, opened
//   #?q=v:drift+m:chained&sort=over   a filter; v verdict, m mode, s stage, p pipeline, variant; !word leaves out; other words search
(async () => {
  const CHUNK = 60;
  const SORTS = { over: (row) => row.over, rel: (row) => row.rel_l2, max: (row) => row.max_abs };
  const KEYS = { v: (row) => row.verdict.replace(" ", "-"), m: (row) => row.mode, s: (row) => row.stage, p: (row) => row.pipeline, variant: (row) => row.variant };
  const placeOf = (row) => `${row.pipeline}/${row.stage ?? row.name}`; // of a row or a stage
  const byId = (id) => document.getElementById(id);

  // ---- small helpers -------------------------------------------------------------------------------------------
  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "rect", "text", "line", "title"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  // ---- numbers, as parity/report/format.py writes them -----------------------------------------------------------
  const NONE = "\u2013", INFINITY = "\u221e";
  const number = (x) => (typeof x === "string" ? Number(x.replace("inf", "Infinity")) : x);
  const exponential = (x) => x.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");
  function figure(x) {
    if (x === null || Number.isNaN(x)) return NONE;
    return !Number.isFinite(x) ? INFINITY : x === 0 ? "0" : exponential(x);
  }
  function times(x) {
    if (x === null || Number.isNaN(x)) return NONE;
    if (!Number.isFinite(x)) return INFINITY;
    if (x === 0) return "0";
    if (x >= 1e5 || x < 1e-3) return exponential(x);
    return x < 100 ? String(Number(x.toPrecision(2))) : Math.round(x).toLocaleString("en");
  }
  function quantity(x, unit) {
    if (!x || unit !== "m" || !Number.isFinite(x)) return `${figure(x)} ${unit}`.trim();
    const steps = [[1, "m"], [1e-3, "mm"], [1e-6, "\u00b5m"], [1e-9, "nm"], [1e-12, "pm"]];
    const [factor, name] = steps.find(([step]) => Math.abs(x) >= step) ?? steps.at(-1);
    return `${Number((x / factor).toPrecision(3))} ${name}`;
  }
  const whole = (x) => x.toLocaleString("en");
  const value = (x) => (x === null ? NONE : String(Number(x.toPrecision(7))));

  // ---- data ------------------------------------------------------------------------------------------------------
  async function unpack() {
    const packed = Uint8Array.from(atob(byId("results").content.textContent.trim()), (char) => char.charCodeAt(0));
    const stream = new Response(packed).body.pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  const { results, verdicts, decided } = await unpack(); // decided: how far over its floor, the figure that decides, its value, its bound
  const figures = ["max_abs", "mean_signed", "max_ulp", "scaled_ulp", "rel_l2", "cosine", "worst_reference", "worst_candidate", "floor"];
  const raw = new Map(results.rows.map((row) => [row.id, row]));
  const rows = results.rows.map((row, place) => ({ ...row, over: number(decided[place][0]), decider: decided[place][1], decisive: number(decided[place][2]), bound: number(decided[place][3]), ...Object.fromEntries(figures.map((name) => [name, number(row[name])])) }));
  const known = new Map(rows.map((row) => [row.id, row]));
  const several = new Set(results.stages.map((stage) => stage.pipeline)).size > 1;
  const state = { query: "", sort: "", unfolded: new Set(), folded: new Set(), shown: new Map() };

  // ---- filter ----------------------------------------------------------------------------------------------------
  const words = (query) => query.trim().split(/\s+/).filter(Boolean);
  function matcher(query) {
    const wanted = {}, tests = [];
    for (const word of words(query)) {
      const leave = word.startsWith("!"), text = (leave ? word.slice(1) : word).toLowerCase();
      const key = text.split(":", 1)[0], read = text.includes(":") && KEYS[key], target = text.slice(key.length + 1);
      if (read && !leave) (wanted[key] ??= new Set()).add(target);
      else if (read) tests.push((row) => read(row) !== target);
      else tests.push((row) => row.id.toLowerCase().includes(text) !== leave);
    }
    for (const [key, targets] of Object.entries(wanted)) tests.push((row) => targets.has(KEYS[key](row)));
    return (row) => tests.every((test) => test(row));
  }
  function toggle(word) {
    const now = words(state.query), at = now.indexOf(word);
    if (at < 0) now.push(word); else now.splice(at, 1);
    setQuery(now.join(" "));
  }
  function setQuery(query) {
    Object.assign(state, { query, unfolded: new Set(), folded: new Set(), shown: new Map() });
    byId("query").value = query;
    render();
    remember();
  }
  function remember(id) {
    const parameters = new URLSearchParams();
    if (state.query) parameters.set("q", state.query);
    if (state.sort) parameters.set("sort", state.sort);
    if (id) parameters.set("row", id);
    const text = id && !state.query && !state.sort ? encodeURI(id) : parameters.size ? `?${parameters.toString().replaceAll("%3A", ":").replaceAll("%2F", "/")}` : "rows";
    history.replaceState(null, "", `#${text}`);
  }

  // ---- table -----------------------------------------------------------------------------------------------------
  function badge(verdict, text = verdict) {
    const { symbol, tone } = verdicts[verdict];
    return make("span", { class: `verdict tone-${tone} v-${verdict.replace(" ", "-")}` }, make("b", { "aria-hidden": true }, symbol), make("span", {}, text));
  }
  const numeric = (text, name = "") => make("td", { class: `number ${name}` }, text);
  const breakable = (name) => name.split(/(?<=[./])/).flatMap((part) => [part, make("wbr")]);
  function tableRow(row) {
    const share = row.differing && row.count ? `${whole(row.differing)} of ${whole(row.count)}` : "";
    const run = [row.mode, row.variant, row.step ? `step ${row.step}` : ""].filter(Boolean).join(", ");
    return make("tr", { class: "row", "data-id": row.id, tabindex: 0, "aria-expanded": false },
      make("td", {}, badge(row.verdict)),
      make("td", {}, ...breakable(state.sort ? `${row.stage}/${row.tensor}` : row.tensor), make("small", { class: "run" }, run)),
      make("td", { class: "run" }, run),
      make("td", { class: "shape" }, row.shape.length ? `${row.shape.join("\u00d7")} ${row.dtype}` : `scalar ${row.dtype}`),
      numeric(share ? percent(row.differing / row.count) : row.verdict === "identical" ? "0" : NONE, "differing"),
      numeric(quantity(row.max_abs, row.unit)),
      numeric(row.max_ulp === null ? NONE : row.max_ulp < 1e6 ? whole(row.max_ulp) : figure(row.max_ulp), "ulp"),
      numeric(figure(row.rel_l2)),
      numeric(times(row.over), "over"));
  }
  const percent = (share) => (share >= 0.9995 ? "100 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
  function stageHead(stage, found) {
    const counts = new Map();
    for (const row of found) counts.set(row.verdict, (counts.get(row.verdict) ?? 0) + 1);
    const parts = Object.keys(verdicts).filter((word) => counts.has(word)).map((word) => badge(word, `${whole(counts.get(word))} ${word}`));
    const button = make("button", { type: "button", "aria-expanded": isOpen(placeOf(stage), found), "data-stage": placeOf(stage) },
      make("strong", {}, stage.name.replaceAll("_", " ")), several ? make("span", { class: "doc" }, stage.pipeline) : null, make("span", { class: "doc" }, stage.doc), make("span", { class: "parts" }, ...parts));
    return make("tr", { class: "stage" }, make("th", { colspan: 9, scope: "rowgroup" }, button));
  }
  // A stage starts open where something is not the same, or where a filter has narrowed it down.
  function isOpen(name, found) {
    if (state.unfolded.has(name)) return true;
    if (state.folded.has(name)) return false;
    return (state.query && found.length <= 40) || found.some((row) => row.id === results.first_divergence);
  }
  function body(name, found, head) {
    const part = make("tbody", { "data-group": name }, head);
    if (head && !isOpen(name, found)) return part;
    const limit = state.shown.get(name) ?? CHUNK;
    part.append(...found.slice(0, limit).map(tableRow));
    if (found.length > limit) {
      const more = make("button", { type: "button", "data-more": name }, `show ${whole(Math.min(5 * CHUNK, found.length - limit))} more of ${whole(found.length - limit)}`);
      part.append(make("tr", { class: "more" }, make("td", { colspan: 9 }, more)));
    }
    return part;
  }
  function matching() {
    const found = rows.filter(matcher(state.query)), key = SORTS[state.sort];
    return key ? found.sort((a, b) => (key(b) ?? -1) - (key(a) ?? -1) || 0) : found;
  }
  function render() {
    const found = matching(), table = byId("table");
    table.querySelectorAll("tbody").forEach((part) => part.remove());
    if (state.sort) table.append(body("", found, null));
    else for (const stage of results.stages) {
      const own = found.filter((row) => placeOf(row) === placeOf(stage));
      if (own.length) table.append(body(placeOf(stage), own, stageHead(stage, own)));
    }
    byId("shown").textContent = found.length === rows.length ? `${whole(rows.length)} rows` : `${whole(found.length)} of ${whole(rows.length)} rows`;
    if (!found.length) table.append(make("tbody", {}, make("tr", {}, make("td", { colspan: 9, class: "none" }, "No row matches this filter."))));
    renderChips();
  }
  function renderChips() {
    const active = new Set(words(state.query));
    const groups = [["v", Object.keys(verdicts).map((word) => word.replace(" ", "-"))], ...[...(several ? ["p"] : []), "m", "variant"].map((key) => [key, [...new Set(rows.map(KEYS[key]))]])];
    byId("chips").replaceChildren(...groups.map(([key, names]) => {
      const others = rows.filter(matcher(words(state.query).filter((word) => !word.startsWith(`${key}:`)).join(" ")));
      return make("div", {}, ...names.map((name) => {
        const count = others.filter((row) => KEYS[key](row) === name).length;
        if (!count && !active.has(`${key}:${name}`)) return null;
        const label = key === "v" ? badge(name.replace("-", " ")) : name;
        return make("button", { type: "button", "aria-pressed": active.has(`${key}:${name}`), "data-word": `${key}:${name}` }, label, make("span", { class: "count" }, whole(count)));
      }));
    }));
  }

  // ---- row detail ------------------------------------------------------------------------------------------------
  function histogram({ edges, counts, zeros }) {
    const used = counts.map((count, index) => (count ? index : -1)).filter((index) => index >= 0);
    const first = Math.max(0, Math.min(...used) - 1), last = Math.min(counts.length - 1, Math.max(...used) + 1);
    if (!used.length) return make("p", {}, "No finite difference to draw.");
    const width = 420, height = 138, base = 104, step = width / (last - first + 1), top = Math.max(...counts);
    const svg = make("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": "histogram of the distance in units in the last place" });
    for (let index = first; index <= last; index++) {
      const x = (index - first) * step, tall = counts[index] && Math.max(1.5, (counts[index] / top) * (base - 18));
      svg.append(make("rect", { x: x + 1, y: base - tall, width: Math.max(step - 2, 1), height: tall }, make("title", {}, `${whole(edges[index])} to ${whole(edges[index + 1] - 1)} ULP: ${whole(counts[index])}`)));
      if (counts[index]) svg.append(make("text", { x: x + step / 2, y: base - tall - 4, "text-anchor": "middle" }, short(counts[index])));
      if (index > first) svg.append(make("text", { x, y: base + 14, "text-anchor": "middle" }, power(edges[index])));
    }
    svg.append(make("line", { x1: 0, x2: width, y1: base, y2: base }));
    svg.append(make("text", { x: width / 2, y: height - 5, "text-anchor": "middle" }, `elements by distance in ULP; ${whole(zeros)} are equal`));
    return svg;
  }
  const power = (edge) => (edge < 1e4 ? whole(edge) : `2^${Math.log2(edge)}`);
  const short = (count) => (count < 1e4 ? whole(count) : count < 1e6 ? `${(count / 1e3).toFixed(0)}k` : `${(count / 1e6).toFixed(1)}M`);
  function cosine(x) {
    return x === null ? NONE : Math.abs(1 - x) < 1e-3 ? (x === 1 ? "1" : `1 ${x > 1 ? "+" : "\u2212"} ${figure(Math.abs(1 - x))}`) : value(x);
  }
  function slices(row) {
    if (row.bitwise || !row.slices?.length) return NONE;
    const part = row.slices.reduce((best, other) => (other.share * other.length > best.share * best.length ? other : best));
    const share = part.share * 100;
    return `axis ${part.axis}, index ${part.index} of ${whole(part.length)}: ${share < 1 ? "<1" : share.toFixed(0)} %`;
  }
  function detail(row) {
    const pairs = [
      ["decided by", `${row.decider} ${figure(row.decisive)}`], ["allowed", figure(row.bound)], ["relative L2", figure(row.rel_l2)], ["its noise floor", figure(row.floor)], ["over the floor", `${times(row.over)} \u00d7`],
      ["largest difference", quantity(row.max_abs, row.unit)], ["mean difference", quantity(row.mean_signed, row.unit)], ["largest, in ULP", row.max_ulp === null ? NONE : whole(row.max_ulp)],
      ["in ULP of the largest value", row.scaled_ulp === null ? NONE : times(row.scaled_ulp)], ["largest, of |value| + rms", figure(row.rel_scaled)], ["cosine", cosine(row.cosine)], ["elements that differ", `${whole(row.differing)} of ${whole(row.count)}`],
      ["worst element", row.worst_index ? `[${row.worst_index.join(", ")}]` : NONE], ["there, reference", value(row.worst_reference)], ["there, candidate", value(row.worst_candidate)],
      ["shape and type", `[${row.shape.join(", ")}] ${row.dtype}`], ["error sits in", slices(row)], ...(row.layout ? [["layout", row.layout]] : []),
    ];
    const list = make("dl", { class: "values" }, ...pairs.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
    const picture = row.histogram ? histogram(row.histogram) : make("p", { class: "none" }, row.bitwise ? "Same bytes: there is no difference to draw." : "No histogram was recorded.");
    const command = make("div", { class: "command" }, make("code", {}, row.repeat), make("button", { type: "button", "data-copy": row.repeat }, "copy"));
    const actions = make("div", { class: "actions" }, command,
      make("button", { type: "button", "data-copy": JSON.stringify(raw.get(row.id), null, 1) }, "copy row as JSON"),
      make("button", { type: "button", "data-copy": `${location.href.split("#")[0]}#${encodeURI(row.id)}` }, "copy link"));
    const reason = make("p", { class: "reason" }, badge(row.verdict), ` \u2013 ${row.reason}`);
    const inside = make("div", { class: "inside" }, make("h4", {}, row.id), reason, make("div", {}, picture), list, actions);
    return make("tr", { class: `detail tone-${verdicts[row.verdict].tone}` }, make("td", { colspan: 9 }, inside));
  }
  function open(line, on = line.getAttribute("aria-expanded") !== "true") {
    const isShown = line.getAttribute("aria-expanded") === "true";
    if (on !== isShown) {
      line.setAttribute("aria-expanded", on);
      line.classList.toggle("open", on);
      if (on) line.after(detail(known.get(line.dataset.id))); else line.nextElementSibling.remove();
    }
    remember(on ? line.dataset.id : undefined);
  }
  function makeCurrent(line) {
    document.querySelector(".row.current")?.classList.remove("current");
    line.classList.add("current");
    line.focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
  }
  function reveal(id) {
    const row = known.get(id);
    if (!matcher(state.query)(row)) Object.assign(state, { query: "" });
    state.unfolded.add(placeOf(row));
    const group = state.sort ? "" : placeOf(row);
    const inGroup = matching().filter((other) => state.sort || placeOf(other) === placeOf(row));
    state.shown.set(group, Math.max(state.shown.get(group) ?? CHUNK, inGroup.indexOf(row) + 10));
    byId("query").value = state.query;
    render();
    const line = document.querySelector(`tr.row[data-id="${CSS.escape(id)}"]`);
    open(line, true);
    makeCurrent(line);
    line.scrollIntoView({ block: "center" });
  }

  // ---- address ---------------------------------------------------------------------------------------------------
  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    if (known.has(hash)) return reveal(hash);
    if (location.hash.startsWith("#?")) {
      const parameters = new URLSearchParams(location.hash.slice(2));
      Object.assign(state, { query: parameters.get("q") ?? "", sort: parameters.get("sort") ?? "", unfolded: new Set(), folded: new Set(), shown: new Map() });
      byId("query").value = state.query;
      byId("sort").value = state.sort;
      render();
      const id = parameters.get("row");
      return known.has(id) ? reveal(id) : byId("rows").scrollIntoView();
    }
    if (hash && !byId(hash)) say(`no row ${hash}`);
  }

  // ---- events ----------------------------------------------------------------------------------------------------
  function act(button) {
    const { word, stage, more } = button.dataset;
    if (word) toggle(word);
    else if (stage) {
      const on = button.getAttribute("aria-expanded") !== "true";
      state[on ? "unfolded" : "folded"].add(stage);
      state[on ? "folded" : "unfolded"].delete(stage);
      render();
      document.querySelector(`[data-stage="${stage}"]`).focus();
    } else if (more !== undefined) {
      state.shown.set(more, (state.shown.get(more) ?? CHUNK) + 5 * CHUNK);
      render();
    } else if (button.dataset.view) {
      const picture = button.closest(".picture");
      picture.dataset.view = button.dataset.view;
      picture.querySelectorAll(".views button").forEach((other) => other.setAttribute("aria-pressed", other === button));
    } else if (button.closest(".module")) {
      const on = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", on);
      button.closest("tbody").nextElementSibling.hidden = !on;
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button"), line = event.target.closest("tr.row"), link = event.target.closest("a[href^='#']");
    if (button && button.id !== "theme" && button.dataset.copy === undefined) act(button);
    else if (link && link.getAttribute("href") === location.hash && link.id !== "download") follow();
    else if (line && !getSelection().toString()) { makeCurrent(line); open(line); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const lines = [...document.querySelectorAll("tr.row")], at = lines.findIndex((line) => line.classList.contains("current"));
    const next = { j: lines[at + 1], k: lines[Math.max(at - 1, 0)] }[event.key];
    if (next) makeCurrent(next);
    else if (event.key === "/") { byId("query").focus(); byId("query").select(); }
    else if (lines[at] && (event.key === "o" || (event.key === "Enter" && event.target === lines[at]))) open(lines[at]);
    else return;
    event.preventDefault();
  });
  let pause;
  byId("query").addEventListener("input", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => setQuery(event.target.value), 120);
  });
  byId("sort").addEventListener("change", (event) => {
    Object.assign(state, { sort: event.target.value, shown: new Map() });
    render();
    remember();
  });
  document.querySelectorAll(".pair input").forEach((input) => input.addEventListener("input", () => input.parentElement.style.setProperty("--share", `${input.value}%`)));
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", () => document.querySelectorAll("#losses details").forEach((part) => { part.open = true; }));

  // results.json once more, with the pictures put back from the page.
  byId("download").addEventListener("click", (event) => {
    const image = (place) => byId(place.slice(1)).getAttribute("src");
    const sides = (picture) => Object.fromEntries(["legacy", "modern", "difference"].map((side) => [side, image(picture[side])]));
    const whole = { ...results, pictures: results.pictures.map((picture) => ({ ...picture, ...sides(picture) })), frames: results.frames.map((frame) => ({ ...frame, image: image(frame.image) })) };
    event.currentTarget.href = `data:application/json;charset=utf-8,${encodeURIComponent(JSON.stringify(whole, null, 1))}`;
  });

  render();
  follow();
  document.documentElement.dataset.ready = "true";
})();
