"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const PAGE_ROWS = 10;
  const state = { run: 0, rung: 0, search: "", sort: "index", heat: "", shown: PAGE_ROWS, open: new Set() };
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // samples reach the page as text only, never as markup
    return node;
  };
  const small = (p) => (p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

  // ---- charts ----
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = (chart) => {
    const lines = { gridcolor: colour("--grid"), linecolor: colour("--rule") };
    return {
      ...chart.layout,
      font: { color: colour("--soft"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      xaxis: { ...chart.layout.xaxis, ...lines },
      yaxis: { ...chart.layout.yaxis, ...lines },
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--ink") } },
      shapes: markers(chart),
    };
  };
  const settings = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage", "resetScale2d"]] };
  const drawn = [];
  const markers = (chart) => {
    const rung = currentRung();
    if (!rung || chart.id === "sqrt-kl") return chart.layout.shapes || [];
    const x = chart.byIteration ? rung.iteration : rung.sqrtKl;
    return (chart.layout.shapes || []).concat([{
      type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: colour("--accent"), width: 2 },
      name: "chosen rung",
    }]);
  };
  const draw = (index) => {
    if (index >= data.charts.length) {
      document.body.dataset.ready = "true";
      return;
    }
    const chart = data.charts[index];
    const node = byId(`chart-${chart.id}`);
    Plotly.newPlot(node, chart.data, themed(chart), settings);
    drawn.push([chart, node]);
    setTimeout(() => draw(index + 1), 0); // the page is readable while the rest is drawn
  };
  const remark = () => drawn.forEach(([chart, node]) => Plotly.relayout(node, { shapes: markers(chart) }));
  dark.addEventListener("change", () => drawn.forEach(([chart, node]) => Plotly.react(node, chart.data, themed(chart), settings)));

  // ---- rungs ----
  const rungs = () => data.runs[state.run].rungs;
  const currentRung = () => rungs()[state.rung];
  const goldNames = () => Object.keys(rungs()[0]?.samples ?? {}).filter((key) => key.startsWith("score "));
  const choose = (index) => {
    state.rung = index;
    const rung = currentRung();
    byId("rung").value = index;
    const error = rung.klSe === null ? "" : ` ± ${number(rung.klSe, 2)}`;
    byId("rung-text").textContent = `${rung.name}: ${number(rung.kl, 2)}${error} nats, iteration ${rung.iteration}`;
    byId("rung").setAttribute("aria-valuetext", byId("rung-text").textContent);
    document.querySelectorAll("tr[data-rung]").forEach((row) =>
      row.classList.toggle("chosen", row.dataset.rung === rung.name && row.dataset.run === data.runs[state.run].name));
    remark();
    showSamples();
    showEffects();
  };
  const startRun = (index) => {
    state.run = index;
    state.open.clear();
    const there = rungs().length > 0;
    byId("ladder").hidden = !there && data.runs.length === 1;
    byId("tools").hidden = !there;
    byId("no-samples").hidden = there;
    byId("table").replaceChildren();
    byId("table").hidden = !there;
    if (!there) {
      byId("rung-text").textContent = "no samples";
      return;
    }
    byId("colour-by").hidden = !rungs().some((rung) => rung.heat.length);
    byId("rung").max = rungs().length - 1;
    byId("rung-ticks").replaceChildren(...rungs().map((_, i) => Object.assign(make("option"), { value: i })));
    const sorts = [["index", "index"]];
    for (const key of goldNames()) {
      const name = key.slice(6);
      sorts.push([`${key}|high`, `${name}, highest first`], [`${key}|low`, `${name}, lowest first`], [`${key}|gain`, `${name}, gain over the original`]);
    }
    byId("sort").replaceChildren(...sorts.map(([value, text]) => Object.assign(make("option", "", text), { value })));
    state.sort = "index";
    choose(data.runs[index].start);
  };

  // ---- samples ----
  const columns = () => [...new Set([0, state.rung, rungs().length - 1])].sort((a, b) => a - b);
  const scale = () => { // the same for all rungs of the run, so that colours compare: the 98th percentile
    const sizes = rungs().flatMap((rung) => rung.heat.flatMap((row) => row[state.heat].map((v) => Math.abs(v ?? 0)))).sort((a, b) => a - b);
    return sizes[Math.floor(0.98 * (sizes.length - 1))] || 1;
  };
  const heated = (heat, full) => heat.tokens.map((token, i) => {
    const value = heat[state.heat][i];
    const node = make("span", "token", token);
    if (value !== null) {
      const hue = state.heat === "kl" ? "138 99 210" : value >= 0 ? "47 158 143" : "209 73 91";
      node.style.backgroundColor = `rgb(${hue} / ${Math.min(0.75, (0.75 * Math.abs(value)) / full).toFixed(3)})`;
      node.title = `${number(value)} ${state.heat === "kl" ? "nats" : "reward"}`;
    }
    return node;
  });
  const cell = (rung, index, isFirst) => {
    const node = make("div");
    const score = make("div", "score");
    goldNames().forEach((key, i) => {
      const value = rung.samples[key]?.[index];
      score.append(`${i ? " · " : ""}${key.slice(6)} `);
      const base = rungs()[0].samples[key]?.[index];
      const sign = isFirst || value == null || base == null || value === base ? "" : value > base ? "gain" : "loss";
      score.append(make("span", sign, number(value)));
    });
    const text = make("div", "text");
    const prompt = data.runs[state.run].prompts[index];
    if (prompt) text.append(make("span", "prompt", prompt));
    const heat = state.heat && rung.heat[index];
    text.append(...(heat ? heated(heat, scale()) : [make("span", "", rung.samples.text[index] ?? "")]));
    text.dir = "auto";
    node.append(score, text);
    return node;
  };
  const everyRung = (index) => {
    const box = make("div", "all");
    rungs().forEach((rung, i) => {
      const one = cell(rung, index, i === 0);
      one.prepend(make("b", "", `${rung.name} (${number(rung.kl, 2)} nats)`));
      box.append(one);
    });
    return box;
  };
  const order = () => {
    const shown = columns().map((i) => rungs()[i].samples.text);
    const prompts = data.runs[state.run].prompts;
    // A phrase is found whatever white space stands in it; ⏎ is a line break, as in the side effects.
    const flat = (text) => (text ?? "").toLowerCase().replace(/\n/g, " ⏎ ").replace(/([^\w\s'])/g, " $1 ").replace(/\s+/g, " ");
    const term = flat(state.search).trim();
    let rows = [...rungs()[0].samples.text.keys()];
    if (term) rows = rows.filter((i) => shown.some((texts) => flat(texts[i]).includes(term)) || flat(prompts[i]).includes(term));
    if (state.sort !== "index") {
      const [key, way] = state.sort.split("|");
      const here = currentRung().samples[key] ?? [], base = rungs()[0].samples[key] ?? [];
      const worth = (i) => (here[i] == null ? -Infinity : way === "gain" ? here[i] - (base[i] ?? 0) : way === "low" ? -here[i] : here[i]);
      rows.sort((a, b) => worth(b) - worth(a) || a - b);
    }
    return rows;
  };
  const showSamples = () => {
    const rows = order();
    const shown = columns();
    const grid = `5.2rem repeat(${shown.length}, minmax(0, 1fr))`;
    const head = make("div", "row head");
    head.style.gridTemplateColumns = grid;
    head.append(make("div", "", "sample"));
    for (const i of shown) {
      const rung = rungs()[i];
      const title = make("div", "", i === 0 ? `original (${rung.name})` : rung.name);
      title.append(make("small", "", `${number(rung.kl, 2)} nats`));
      head.append(title);
    }
    const body = rows.slice(0, state.shown).map((index) => {
      const row = make("div", "row");
      row.style.gridTemplateColumns = grid;
      row.tabIndex = 0;
      row.dataset.index = index;
      row.title = "Enter or click: this sample on every rung";
      row.append(make("div", "", `${index + 1}`), ...shown.map((i) => cell(rungs()[i], index, i === 0)));
      if (state.open.has(index)) row.append(everyRung(index));
      return row;
    });
    byId("table").replaceChildren(head, ...body);
    const coloured = Math.max(...rungs().map((rung) => rung.heat.length));
    const what = state.heat === "kl" ? "KL (nats) where policy and original part" : "what each token adds to the reward: green pays, red costs";
    byId("heat-note").textContent = state.heat ? `${what}; full colour from ${number(scale(), 2)}; hover for the number; kept for the first ${coloured} samples.` : "";
    const many = rungs()[0].samples.text.length;
    const all = rows.length === many ? "" : ` of ${many.toLocaleString("en")}`;
    byId("found").textContent = rows.length || many === 0 ? `${rows.length.toLocaleString("en")}${all} samples` : "no sample shown holds it";
    byId("more").hidden = rows.length <= state.shown;
  };
  const toggle = (row) => {
    const index = Number(row.dataset.index);
    if (!state.open.delete(index)) state.open.add(index);
    showSamples();
    document.querySelector(`.row[data-index="${index}"]`)?.focus();
  };

  // ---- side effects ----
  const effectTable = (title, rows, className = "") => {
    const box = make("div", className);
    const table = make("table");
    const head = make("tr");
    for (const [name, meaning] of [
      ["term", "click to see its samples"], ["odds ×", "factor of the odds, shrunk by the prior (Monroe et al. 2008)"],
      ["per 1,000", "occurrences per 1,000 words: original → this rung"], ["samples", "completions that hold it: original → this rung"],
      ["r", "correlation of its count with the reward among the original's samples: near 0, nobody paid for it"],
      ["q", "false discovery rate at which it is found"],
    ]) head.append(Object.assign(make("th", "", name), { title: meaning }));
    table.append(head);
    for (const row of rows) {
      const line = make("tr");
      const link = Object.assign(make("button", "", row.term), { type: "button" });
      link.dataset.term = row.term;
      const first = make("td");
      first.append(link);
      line.append(first, make("td", row.factor > 1 ? "gain" : "loss", row.factor >= 10 ? number(row.factor, 0) : number(row.factor, 2)), make("td", "", `${number(row.before, 1)} → ${number(row.after, 1)}`),
        make("td", "", `${row.samplesBefore} → ${row.samplesAfter}`), make("td", "", number(row.r, 2)), make("td", "", small(row.q)));
      table.append(line);
    }
    box.append(make("h3", "", title), rows.length ? table : make("p", "note", "nothing found"));
    return box;
  };
  const showEffects = () => {
    const rung = currentRung(), effects = rung.effects;
    byId("effects").hidden = !rungs().some((r) => r.effects);
    if (!effects) {
      byId("effects-note").textContent = "This is the original: move the slider to a rung.";
      byId("effects-tables").replaceChildren();
      return;
    }
    byId("effects-note").textContent = `${rung.name} against the original: ${effects.found} of ${effects.tested} words and phrases changed (false discovery rate 5 %, tested by sample). `
      + (effects.rewarded.length ? "What the reward plainly pays for is set apart and left out of the counts of the rest." : "No single word carries the reward (no correlation of 0.5 or more with it), so nothing is set apart.");
    byId("effects-tables").replaceChildren(
      ...(effects.rewarded.length ? [effectTable("What the reward pays for", effects.rewarded, "wide")] : []),
      effectTable("More common words", effects.up1), effectTable("Less common words", effects.down1),
      effectTable("More common phrases", effects.up2), effectTable("Less common phrases", effects.down2));
  };

  // ---- hands ----
  byId("heat").addEventListener("change", (event) => { state.heat = event.target.value; showSamples(); });
  byId("effects-tables").addEventListener("click", (event) => {
    const term = event.target.dataset.term;
    if (term === undefined) return;
    byId("search").value = state.search = term;
    state.shown = PAGE_ROWS;
    showSamples();
    byId("samples").scrollIntoView();
  });
  byId("rung").addEventListener("input", (event) => choose(Number(event.target.value)));
  byId("search").addEventListener("input", (event) => { state.search = event.target.value; state.shown = PAGE_ROWS; showSamples(); });
  byId("sort").addEventListener("change", (event) => { state.sort = event.target.value; showSamples(); });
  byId("more").addEventListener("click", () => { state.shown += 5 * PAGE_ROWS; showSamples(); });
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("table").addEventListener("click", (event) => {
    const row = event.target.closest(".row[data-index]");
    if (row && !event.target.closest(".all") && !String(getSelection())) toggle(row);
  });
  byId("table").addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches(".row[data-index]")) toggle(event.target); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input[type=search]")) { event.preventDefault(); byId("search").focus(); }
  });
  document.querySelectorAll("tr[data-rung]").forEach((row) => row.addEventListener("click", () => {
    const run = data.runs.findIndex((r) => r.name === row.dataset.run);
    if (run !== state.run) { byId("run").value = run; startRun(run); }
    const rung = rungs().findIndex((r) => r.name === row.dataset.rung);
    if (rung >= 0) choose(rung);
  }));
  if (data.runs.length > 1) {
    byId("run").hidden = false;
    byId("run").replaceChildren(...data.runs.map((run, i) => Object.assign(make("option", "", run.name), { value: i })));
    byId("run").addEventListener("change", (event) => startRun(Number(event.target.value)));
  }
  startRun(0);
  draw(0);
})();
