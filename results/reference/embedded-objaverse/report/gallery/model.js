// What is shown and in which order: filters, sorting, scores. No DOM here.
"use strict";

const model = (() => {
  const data = window.GALLERY_DATA;
  const metrics = new Map(data.metrics.map((metric, i) => [metric.name, { ...metric, index: i }]));
  const competing = data.variants.map((variant) => variant.section !== "reference");

  // edits.get(sample)[variant][seed]
  const edits = data.samples.map(() => data.variants.map(() => []));
  for (const edit of data.edits) {
    const [sample, variant, seed] = edit.at;
    edits[sample][variant][seed] = edit;
  }

  const first = data.metrics.find((metric) => metric.headline) || data.metrics[0];
  const initial = () => ({
    search: "", type: "", metric: first ? first.name : "", of: -1, low: null, high: null,
    sort: "order", descending: false, seed: 0, failed: false, overlay: "picture",
    // The unchanged source and the counterfactual have their own places in a row.
    hidden: new Set(data.variants.flatMap(({ name }, i) => (["identity", "counterfactual"].includes(name) ? [i] : []))),
  });
  const state = initial();

  const edit = (sample, variant) => edits[sample][variant][state.seed];

  function score(sample, variant, metric = metrics.get(state.metric)) {
    const found = edit(sample, variant);
    if (!metric || !found || !found.scores) return null;
    const value = found.scores[metric.index];
    return value === null ? null : value * metric.scale;
  }

  const shown = () => data.variants.map((_, i) => i).filter((i) => !state.hidden.has(i));
  const rivals = () => shown().filter((i) => competing[i]);
  const chosen = () => (state.of >= 0 ? [state.of] : rivals().length ? rivals() : shown());
  const defined = (sample, variants) => variants.map((i) => score(sample, i)).filter((value) => value !== null);

  function sampleScore(sample) {
    const values = defined(sample, chosen());
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
  }

  function disagreement(sample) {
    const values = defined(sample, rivals().length ? rivals() : shown());
    return values.length > 1 ? Math.max(...values) - Math.min(...values) : null;
  }

  const failed = (sample) => edits[sample].some((seeds) => seeds.some((found) => found && found.reason));

  const texts = data.samples.map((sample) =>
    [sample.id, sample.type, sample.instruction, ...Object.values(sample.tags),
      ...[sample.source_prompt, sample.target_prompt].map((words) => words.map(([word]) => word).join(" "))]
      .join("\n").toLowerCase());

  function passes(sample) {
    if (state.type && data.samples[sample].type !== state.type) return false;
    if (state.failed && !failed(sample)) return false;
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.every((word) => texts[sample].includes(word))) return false;
    if (state.low === null && state.high === null) return true;
    return defined(sample, chosen()).some((value) =>
      (state.low === null || value >= state.low) && (state.high === null || value <= state.high));
  }

  // Samples in order; those without a value come last in both directions.
  function list() {
    const found = data.samples.map((_, i) => i).filter(passes);
    if (state.sort === "order") return state.descending ? found.reverse() : found;
    const by = new Map(found.map((i) => [i, state.sort === "score" ? sampleScore(i) : disagreement(i)]));
    const sign = state.descending ? -1 : 1;
    return found.sort((a, b) => {
      const [x, y] = [by.get(a), by.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (x - y) || a - b;
    });
  }

  // The best score of a metric on a sample among the methods that compete, for emphasis.
  function best(sample, metric) {
    if (metric.direction === "none") return null;
    const values = data.variants.map((_, i) => i).filter((i) => competing[i])
      .map((i) => score(sample, i, metric)).filter((value) => value !== null);
    // Where all are equal none stands out.
    if (values.length < 2 || Math.max(...values) === Math.min(...values)) return null;
    return metric.direction === "higher" ? Math.max(...values) : Math.min(...values);
  }

  const number = (value) =>
    value === null ? "–" : value.toFixed(Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : 2);
  const arrow = (metric) => ({ higher: " ↑", lower: " ↓", none: "" })[metric.direction];
  const scaled = (metric) => (metric.scale === 1 ? "" : ` ×10${superscript(Math.round(Math.log10(metric.scale)))}`);
  const superscript = (value) => String(value).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const title = (metric) => metric.title + scaled(metric) + arrow(metric);

  // Where the pictures lie. A small picture is its own thumbnail.
  const picture = (found) => `edits/${found.key}.png`;
  const thumbnail = (found) => (data.thumbnails ? `thumbs/${found.key}.jpg` : picture(found));

  return {
    data, metrics, state, initial, edit, score, shown, sampleScore, disagreement, failed, list, best, number, title,
    picture, thumbnail,
  };
})();
