// Builds the front end: the widget into the Python package; with --lab, the JupyterLab extension into
// build/labextension; with --tests, the unit tests into build/tests.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "text" },
};
const shipped = { ...common, minify: true, legalComments: "none", logLevel: "info" };
const WIDGET = "../handoff_lab/widgets/static";

async function widget() {
  await build({ ...shipped, entryPoints: ["src/widget.tsx"], outdir: WIDGET });
  licenses(WIDGET);
}

// JupyterLab itself brings what is external; @jupyter/builder wraps the bundle so that it finds that.
async function lab() {
  await build({
    ...shipped,
    entryPoints: ["src/lab/index.ts"],
    outdir: "build/lab",
    external: ["@jupyterlab/*", "@lumino/*"],
  });
  const builder = "node_modules/@jupyter/builder/lib/build-labextension.js";
  const core = "node_modules/@jupyterlab/core-meta/core.package.json";
  execFileSync(process.execPath, [builder, "--core-package-file", core, "."], { stdio: "inherit" });
}

async function tests() {
  rmSync("build/tests", { recursive: true, force: true });
  await build({
    ...common,
    entryPoints: readdirSync("tests").filter((name) => /\.test\.tsx?$/.test(name)).map((name) => `tests/${name}`),
    outdir: "build/tests",
    outExtension: { ".js": ".mjs" },
    platform: "node",
    mainFields: ["module", "main"],
  });
}

// Of what is bundled; the bundle itself is kept small, as it travels with every widget.
function licenses(folder) {
  const { dependencies } = JSON.parse(readFileSync("package.json", "utf8"));
  const texts = Object.keys(dependencies).map((name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`)}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/third-party-licenses.txt`, texts.join("\n\n"));
}

const what = { "--lab": lab, "--tests": tests }[process.argv[2]] ?? widget;
await what();
