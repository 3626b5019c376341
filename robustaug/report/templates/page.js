(() => {
  "use strict";
  const root = document.documentElement;
  const figures = [...document.querySelectorAll("figure")];
  const drawn = new Set();

  // "--m0" and "--m0@0.15" name a colour of the style sheet, so that figures follow the light and the dark scheme
  const colour = (name, opacity) => {
    const hex = getComputedStyle(root).getPropertyValue(name).trim();
    if (opacity === undefined) return hex;
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${opacity})`;
  };
  const resolve = (value) => {
    if (Array.isArray(value)) return value.map(resolve);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolve(inner)]));
    }
    const token = typeof value === "string" && /^(--[a-z0-9-]+)(?:@([0-9.]+))?$/.exec(value);
    return token ? colour(token[1], token[2]) : value;
  };
  const axis = (own, narrow) => ({
    fixedrange: true, zeroline: false, automargin: true, gridcolor: colour("--line"), linecolor: colour("--line"),
    tickfont: { size: narrow ? 11 : 12 }, ...own,
    title: { font: { size: narrow ? 12 : 13 }, standoff: 8, ...own.title },
  });
  const draw = (figure) => {
    const box = figure.querySelector(".plot");
    const spec = resolve(JSON.parse(figure.querySelector("script").textContent));
    const narrow = box.clientWidth < 420;
    const layout = {
      ...spec.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      hoverdistance: 60,
      margin: { l: 8, r: 16, t: 12, b: 8 }, height: parseInt(box.style.height, 10),
      font: { family: getComputedStyle(document.body).fontFamily, color: colour("--ink-2"), size: 13 },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), namelength: -1, align: "left",
        font: { color: colour("--ink"), size: 13 } },
      xaxis: axis(spec.layout.xaxis, narrow), yaxis: axis(spec.layout.yaxis, narrow),
    };
    drawn.add(figure);
    return Plotly.react(box, spec.data, layout, { responsive: true, displayModeBar: false, doubleClick: false });
  };

  // Plotly lies in the page deflated; the page's policy knows the hash of what comes out, and lets nothing else run
  const unpack = async (packed) => {
    const text = atob(packed.textContent);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    packed.remove();
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
    script.remove();
    if (!window.Plotly) throw new Error("plotly did not start");
  };

  // A figure is drawn when it comes near the screen: the page can be read at once
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "800px 0px" });
  const savable = (figure) => {
    const save = figure.querySelector(".save");
    save.hidden = false;
    save.addEventListener("click", () => {
      const box = figure.querySelector(".plot");
      Promise.resolve(draw(figure)).then(() => Plotly.downloadImage(box, {
        format: "svg", width: box.clientWidth, height: box.clientHeight, filename: figure.id,
      }));
    });
  };

  // and the others when there is nothing else to do, so that a print or a screenshot of the whole page has them all
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  const next = () => {
    const figure = figures.find((one) => !drawn.has(one));
    if (figure) { watcher.unobserve(figure); draw(figure); idle(next); }
  };
  const start = () => {
    for (const figure of figures) { watcher.observe(figure); savable(figure); }
    idle(next);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
    addEventListener("beforeprint", () => { root.classList.add("printing"); figures.forEach(draw); });
    addEventListener("afterprint", () => { root.classList.remove("printing"); drawn.forEach(draw); });
  };
  const packed = document.getElementById("plotly");
  if (packed) unpack(packed).then(start, () => root.classList.add("undrawn"));

  // The contents list marks the section being read: the last one that begins in the upper third
  const links = [...document.querySelectorAll(".contents a")];
  const mark = () => {
    const above = links.filter((a) => document.querySelector(a.hash).getBoundingClientRect().top < innerHeight / 3);
    const here = above.at(-1) ?? links[0];
    for (const a of links) {
      a.classList.toggle("here", a === here);
      if (a === here) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; mark(); });
    waiting = true;
  }, { passive: true });
  mark();
})();
