// Controls, keys, start.
"use strict";

(() => {
  const { data, state } = model;
  const by = (id) => document.getElementById(id);
  const controls = by("controls");
  const option = (value, text) => element("option", { value }, text);

  by("setup").append(...data.head.map((line) => element("p", {}, line)));
  const types = [...new Set(data.samples.map((sample) => sample.type))].sort();
  by("type").append(option("", "all"), ...types.map((type) => option(type, type.replaceAll("_", " "))));
  by("metric").append(...data.metrics.map((metric) => option(metric.name, model.title(metric))));
  by("of").append(option(-1, "methods shown"), ...data.variants.map(({ name }, i) => option(i, name)));
  by("seed").append(...data.seeds.map((seed, i) => option(i, String(seed))));
  by("seed-label").hidden = data.seeds.length < 2;
  by("methods").append(...data.variants.map(({ name }, i) => element("label", {},
    element("input", { type: "checkbox", value: i }), " ", name)));

  // From the state to the controls; a reset goes this way, too.
  function fill() {
    for (const name of ["search", "type", "metric", "of", "sort", "seed"]) by(name).value = state[name];
    by("low").value = state.low ?? "";
    by("high").value = state.high ?? "";
    by("failed").checked = state.failed;
    for (const box of by("methods").querySelectorAll("input")) box.checked = !state.hidden.has(Number(box.value));
    for (const radio of by("overlay").querySelectorAll("input")) radio.checked = radio.value === state.overlay;
    by("direction").textContent = state.descending ? "↓ high first" : "↑ low first";
    by("metric").title = model.metrics.get(state.metric)?.description ?? "";
  }

  const numeric = (text) => (text === "" || Number.isNaN(Number(text)) ? null : Number(text));

  function take() {
    for (const name of ["search", "type", "metric", "sort"]) state[name] = by(name).value;
    state.of = Number(by("of").value);
    state.seed = Number(by("seed").value);
    state.low = numeric(by("low").value);
    state.high = numeric(by("high").value);
    state.failed = by("failed").checked;
    state.overlay = controls.elements.overlay.value;
    state.hidden = new Set([...by("methods").querySelectorAll("input:not(:checked)")].map((box) => Number(box.value)));
    update();
  }

  function update() {
    fill();
    grid.draw();
    sampleView.redraw();
  }

  const resize = () => document.documentElement.style.setProperty("--cell", `${by("size").value}px`);
  const toggle = (overlay) => {
    state.overlay = state.overlay === overlay ? "picture" : overlay;
    update();
  };

  let waiting = 0;
  controls.addEventListener("input", (event) => {
    if (event.target.id === "size") return resize();
    clearTimeout(waiting);
    waiting = setTimeout(take, ["search", "low", "high"].includes(event.target.id) ? 150 : 0);
    return undefined;
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", (event) => {
    event.preventDefault();
    Object.assign(state, model.initial());
    update();
  });
  by("direction").addEventListener("click", () => {
    state.descending = !state.descending;
    update();
  });
  by("fold").addEventListener("click", () => {
    const open = controls.classList.toggle("unfolded");
    by("fold").setAttribute("aria-expanded", String(open));
  });
  by("show-help").addEventListener("click", () => by("help").showModal());

  const keys = {
    j: () => walk(1),
    k: () => walk(-1),
    m: () => toggle("mask"),
    d: () => toggle("difference"),
    "?": () => by("help").showModal(),
    "/": () => !sampleView.open() && by("search").focus(),
    ArrowLeft: () => sampleView.open() && sampleView.nudge(-2),
    ArrowRight: () => sampleView.open() && sampleView.nudge(2),
    Enter: () => !sampleView.open() && grid.focused() >= 0 && (location.hash = sampleView.link(grid.focused())),
  };

  function walk(step) {
    if (sampleView.open()) return sampleView.step(step);
    const at = grid.focused();
    return grid.focus(at < 0 ? grid.order()[0] : grid.neighbour(at, step));
  }

  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const typing = target.matches("select, textarea, input:not([type=range]):not([type=checkbox]):not([type=radio])");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || by("help").open) return;
    if (key === "Enter" && target.matches("button, a, summary")) return;
    if (/^[1-9]$/.test(key) && sampleView.open()) sampleView.pick(Number(key) - 1);
    else if (keys[key] && (keys[key]() !== false)) { if (key === "/") event.preventDefault(); }
  });
  addEventListener("hashchange", () => sampleView.show());

  fill();
  resize();
  grid.draw();
  sampleView.show();
  document.documentElement.dataset.ready = String(Math.round(performance.now())); // ms, for tests
})();
