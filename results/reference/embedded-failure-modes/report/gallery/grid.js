// The list of samples: a row of pictures each, made as it comes into view.
"use strict";

// An element with attributes and children. Texts become text nodes: nothing from the data is ever read as HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// A name that may break after an underscore.
const breakable = (name) => name.replaceAll("_", "_\u200b");

// A prompt, the words that the other prompt lacks marked.
function prompt(words, label, kind) {
  const parts = words.flatMap(([word, changed]) => [changed ? element("mark", { class: kind }, word) : word, " "]);
  return element("p", { class: "prompt" }, element("span", { class: "role" }, label), " ",
    ...(words.length ? parts : ["prompt unknown: the dataset is not at hand"]));
}

const pixelated = (event) => {
  // Small pictures are enlarged pixel by pixel; photographs are smoothed.
  if (event.target.naturalWidth <= 128) event.target.classList.add("pixelated");
};

function image(file, description, eager = false) {
  return element("img", {
    src: file, alt: description, loading: eager ? "eager" : "lazy", decoding: "async", onload: pixelated,
    onerror: (event) => event.target.replaceWith(element("span", { class: "missing" }, "picture missing")),
  });
}

// A picture under the overlay that is chosen: the edit mask, or the difference from the source.
function stack(sample, file, description, { overlay = model.state.overlay, eager = false, full = false } = {}) {
  const box = element("div", { class: "stack" });
  const source = (!full && sample.source_small) || sample.source;
  if (overlay === "difference" && source && file !== source) {
    box.classList.add("difference");
    box.append(image(source, "", eager));
  }
  box.append(image(file, description, eager));
  if (overlay === "mask" && sample.mask) {
    const mask = image(sample.mask, "", eager);
    mask.classList.add("mask");
    box.append(mask);
  }
  return box;
}

const grid = (() => {
  const { data, state } = model;
  const CHUNK = 12;
  const place = document.getElementById("grid");
  const more = document.getElementById("more");
  let order = [];
  let made = 0;

  function cell(sample, name, content, value, { best = false, onclick = null } = {}) {
    const caption = element("figcaption", {}, element("span", { class: "name", title: name }, breakable(name)),
      value === undefined ? null : element("span", { class: best ? "value best" : "value" }, value));
    return element("figure", { class: onclick ? "open" : null, onclick }, content, caption);
  }

  function editCell(index, variant) {
    const sample = data.samples[index];
    const { name } = data.variants[variant];
    const found = model.edit(index, variant);
    const onclick = () => { location.hash = sampleView.link(index, variant); };
    if (!found) return cell(sample, name, element("div", { class: "stack empty-cell" }, "not run"));
    if (found.reason) {
      const reason = element("div", { class: "stack failure" }, element("b", {}, "failed"), " ", found.reason);
      return cell(sample, name, reason, "–", { onclick });
    }
    const metric = model.metrics.get(state.metric);
    const value = model.score(index, variant);
    return cell(sample, name, stack(sample, model.thumbnail(found), `${name} on sample ${sample.id}`),
      metric && model.number(value), { best: metric && value !== null && value === model.best(index, metric), onclick });
  }

  function row(index) {
    const sample = data.samples[index];
    const open = () => { location.hash = sampleView.link(index); };
    const strip = element("div", { class: "strip", tabindex: "-1" });
    strip.append(cell(sample, "source", sample.source
      ? stack(sample, sample.source_small || sample.source, `source of sample ${sample.id}`,
        { overlay: state.overlay === "mask" ? "mask" : "picture" })
      : element("div", { class: "stack empty-cell" }, "not at hand"), undefined, { onclick: open }));
    strip.append(...model.shown().map((variant) => editCell(index, variant)));
    if (sample.reference) {
      strip.append(cell(sample, "counterfactual", stack(sample, sample.reference_small || sample.reference,
        `counterfactual of sample ${sample.id}`), undefined, { onclick: open }));
    }
    return element("article", { class: "row", "data-index": index, tabindex: "0", "aria-label": `sample ${sample.id}` },
      element("h2", {}, element("a", { href: sampleView.link(index) }, sample.id), " ",
        element("span", { class: "type" }, sample.type.replaceAll("_", " "))),
      prompt(sample.source_prompt, "from", "dropped"), prompt(sample.target_prompt, "to", "added"), strip);
  }

  function append() {
    const until = Math.min(made + CHUNK, order.length);
    place.append(...order.slice(made, until).map(row));
    made = until;
    more.hidden = made >= order.length;
  }

  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && made < order.length) {
      append();
      // The end may still be in view: look again.
      requestAnimationFrame(() => { if (more.getBoundingClientRect().top < innerHeight + 800) append(); });
    }
  }, { rootMargin: "800px" }).observe(more);

  function draw() {
    order = model.list();
    made = 0;
    place.replaceChildren();
    append();
    if (!order.length) place.append(element("p", { class: "empty" }, "No sample fits these filters."));
    document.getElementById("count").textContent =
      `${order.length} of ${data.samples.length} samples · ${data.variants.length} methods`;
    document.querySelector(".heat-legend").hidden = state.overlay !== "difference";
  }

  // The sample `step` places from this one in the order shown.
  function neighbour(index, step) {
    const at = order.indexOf(index);
    return order[at < 0 ? 0 : Math.max(0, Math.min(order.length - 1, at + step))];
  }

  function focus(index) {
    while (made < order.length && order.indexOf(index) >= made) append();
    const found = place.querySelector(`[data-index="${index}"]`);
    if (!found) return;
    found.focus({ preventScroll: true });
    found.scrollIntoView({ block: "nearest" });
  }

  const focused = () => {
    const found = document.activeElement && document.activeElement.closest("[data-index]");
    return found ? Number(found.dataset.index) : -1;
  };

  return { draw, neighbour, focus, focused, order: () => order };
})();
