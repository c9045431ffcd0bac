// One sample: slider, difference, all edits, all scores. Its address is #sample=<id>&method=<name>.
"use strict";

const sampleView = (() => {
  const { data, state } = model;
  const dialog = document.getElementById("sample");
  const view = { index: -1, variant: -1, against: "source" };

  function link(index, variant) {
    const parts = new URLSearchParams({ sample: data.samples[index].id });
    if (variant !== undefined && variant >= 0) parts.set("method", data.variants[variant].name);
    return `#${parts}`;
  }

  function read() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const index = data.samples.findIndex((sample) => sample.id === parts.get("sample"));
    return { index, variant: data.variants.findIndex((variant) => variant.name === parts.get("method")) };
  }

  const usable = (index, variant) => variant >= 0 && model.edit(index, variant);
  const firstVariant = (index) =>
    [...model.shown(), ...data.variants.keys()].find((variant) => usable(index, variant)) ?? -1;

  function side(sample, kind) {
    return kind === "counterfactual" ? sample.reference : sample.source;
  }

  function comparison(sample, found, name) {
    const left = side(sample, view.against);
    if (!found) return element("p", { class: "empty" }, "This method was not run on this sample.");
    if (found.reason) {
      return element("p", { class: "failure wide-failure" }, element("b", {}, `${name} failed: `), found.reason);
    }
    const eager = { eager: true, full: true, overlay: state.overlay === "mask" ? "mask" : "picture" };
    const edited = stack(sample, model.picture(found), `${name}, edited`, eager);
    return left
      ? slider(stack(sample, left, view.against, eager), edited, [view.against, name])
      : edited;
  }

  function difference(sample, found, name) {
    const origin = side(sample, view.against);
    if (!found || found.reason || !origin) return null;
    const heat = stack({ ...sample, source: origin }, model.picture(found), `difference of ${name} and ${view.against}`,
      { overlay: "difference", eager: true, full: true });
    return element("figure", { class: "heat" }, heat, element("figcaption", {},
      `|${name} − ${view.against}|, levels of 255: 0 `, element("span", { class: "ramp" }), " 85 and more"));
  }

  function chooser(sample) {
    const choices = ["source", ...(sample.reference ? ["counterfactual"] : [])];
    const select = element("select", { "aria-label": "compare with",
      onchange: (event) => { view.against = event.target.value; draw(); } },
    choices.map((kind) => element("option", { value: kind, selected: kind === view.against }, kind)));
    return element("label", { class: "against" }, "left: ", select);
  }

  function picker(sample, index) {
    return element("div", { class: "picker", role: "group", "aria-label": "Methods" }, data.variants.map(({ name }, i) => {
      const found = model.edit(index, i);
      const face = !found ? element("div", { class: "stack empty-cell" }, "not run")
        : found.reason ? element("div", { class: "stack failure" }, "failed")
          : stack(sample, model.thumbnail(found), "", { overlay: "picture", eager: true });
      return element("button", {
        type: "button", "aria-pressed": String(i === view.variant),
        onclick: () => goTo(link(index, i)),
      }, face, element("span", {}, i < 9 ? element("kbd", {}, String(i + 1)) : null, " ", breakable(name)));
    }));
  }

  function scores(index) {
    const head = element("tr", {}, element("th", { scope: "col" }, "Metric"), data.variants.map(({ name }, i) =>
      element("th", { scope: "col", class: i === view.variant ? "current" : null }, name)));
    const lines = data.metrics.map((metric, place) => {
      const full = { ...metric, index: place };
      const best = model.best(index, full);
      return element("tr", {}, element("th", { scope: "row", title: metric.description }, model.title(metric)),
        data.variants.map((_, i) => {
          const value = model.score(index, i, full);
          const winner = value !== null && value === best && data.variants[i].section !== "reference";
          const classes = [i === view.variant ? "current" : "", winner ? "best" : ""].join(" ").trim();
          return element("td", { class: classes || null }, model.number(value));
        }));
    });
    const cost = [["s/edit", "seconds"], ["UNet evals", "evaluations"]].map(([label, field]) =>
      element("tr", { class: "cost" }, element("th", { scope: "row" }, label), data.variants.map((_, i) => {
        const found = model.edit(index, i);
        return element("td", { class: i === view.variant ? "current" : null },
          !found || found[field] === null ? "–" : field === "seconds" ? model.number(found[field]) : String(found[field]));
      })));
    return element("div", { class: "scroll" },
      element("table", { class: "scores" }, element("thead", {}, head), element("tbody", {}, lines, cost)));
  }

  function facts(sample, found) {
    const rows = [["instruction", sample.instruction], ...Object.entries(sample.tags),
      ...(found ? [["parameters", found.params || "none"], ["record", found.key]] : [])].filter(([, value]) => value);
    return element("dl", { class: "facts" }, rows.flatMap(([name, value]) =>
      [element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, String(value))]));
  }

  function film(found) {
    if (!found || !found.film) return null;
    const shown = found.film.endsWith(".mp4")
      ? element("video", { src: found.film, controls: true, loop: true, muted: true, playsinline: true })
      : element("img", { src: found.film, alt: "turntable", loading: "lazy" });
    const figure = element("figure", { class: "film" }, shown, element("figcaption", {}, "turntable"));
    // A gallery may have been copied without its films, which are large.
    shown.addEventListener("error", () => figure.remove());
    return figure;
  }

  function draw() {
    const { index, variant } = view;
    const sample = data.samples[index];
    const found = variant >= 0 ? model.edit(index, variant) : undefined;
    const name = variant >= 0 ? data.variants[variant].name : "";
    const go = (step) => () => step_(step);
    const keep = dialog.querySelector(".body")?.scrollTop ?? 0;
    if (view.against === "counterfactual" && !sample.reference) view.against = "source";
    dialog.replaceChildren(
      element("header", {},
        element("h2", { id: "sample-title" }, sample.id, " ",
          element("span", { class: "type" }, sample.type.replaceAll("_", " "))),
        element("button", { type: "button", onclick: go(-1), "aria-label": "previous sample" }, "‹"),
        element("button", { type: "button", onclick: go(1), "aria-label": "next sample" }, "›"),
        element("button", { type: "button", onclick: close, "aria-label": "close", class: "close" }, "×")),
      element("div", { class: "body" },
        prompt(sample.source_prompt, "from", "dropped"), prompt(sample.target_prompt, "to", "added"),
        element("div", { class: "compare" },
          element("div", { class: "compare-main" }, comparison(sample, found, name), chooser(sample)),
          difference(sample, found, name), film(found)),
        picker(sample, index), scores(index), facts(sample, found)));
    dialog.querySelector(".body").scrollTop = keep;
  }

  function step_(step) {
    const next = grid.neighbour(view.index, step);
    if (next !== undefined) goTo(link(next, view.variant));
  }

  const close = () => goTo(location.pathname + location.search);

  // At once, not when the browser gets round to telling of a new address: the next key may be down already.
  function goTo(address) {
    history.replaceState(null, "", address);
    show();
  }

  // Shows what the address says.
  function show() {
    const { index, variant } = read();
    if (index < 0) {
      if (dialog.open) dialog.close();
      if (view.index >= 0) grid.focus(view.index);
      view.index = -1;
      return;
    }
    view.index = index;
    view.variant = variant >= 0 ? variant : firstVariant(index);
    draw();
    if (!dialog.open) dialog.showModal();
  }

  dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) close(); });

  function nudge(by) {
    const range = dialog.querySelector(".slider input");
    if (!range || document.activeElement === range) return;
    range.value = Number(range.value) + by;
    range.dispatchEvent(new Event("input"));
  }

  return {
    link, show, close, nudge, redraw: () => view.index >= 0 && draw(), open: () => view.index >= 0, step: step_,
    pick: (variant) => { if (variant < data.variants.length) goTo(link(view.index, variant)); },
  };
})();
