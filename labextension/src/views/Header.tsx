// What runs, how far it is, and what can be done with it.

import type { JSX } from "preact";

import { useStore, useStoreValue } from "../hooks";
import { RUN_LETTERS } from "../status";
import type { Store } from "../store";
import { BUSY, cannot, useAsking } from "./asking";
import { ExportMenu } from "./ExportMenu";
import { clock, plural } from "./format";
import { openNextFailure } from "./keys";
import { ActionButton, Icon, StatusIcon } from "./parts";
import { Counts, ProgressBar } from "./Progress";
import { Search } from "./Search";

export function Header({ store, onKeys }: { store: Store; onKeys: () => void }): JSX.Element {
  useStore(store, "structure", "run", "connection");
  const run = store.live?.run ?? null;
  return (
    <section class="hl-header" data-part="header" aria-label="Run">
      <div class="hl-header-line">
        <RunPill store={store} />
        <h2 class="hl-dag-name">{store.structure?.name || "DAG"}</h2>
        <span class="hl-run-id" title={run?.strategy ? `allocated by ${run.strategy}` : undefined}>
          {run ? `run ${run.id}` : plural(store.size, "function")}
        </span>
        <Clocks store={store} />
        <span class="hl-grow" />
        <Search store={store} />
      </div>
      <ProgressBar store={store} />
      <div class="hl-header-line">
        <Counts store={store} />
        <span class="hl-grow" />
        <Verbs store={store} onKeys={onKeys} />
      </div>
      <Lacks store={store} />
      <Trouble store={store} />
      <FirstFailure store={store} />
    </section>
  );
}

function RunPill({ store }: { store: Store }): JSX.Element {
  const run = store.live?.run;
  const letter = run ? RUN_LETTERS[run.status] : "w";
  return (
    <span class="hl-pill" data-letter={letter} role="status">
      <StatusIcon status={letter} />
      {run?.status ?? "not run"}
      {!store.source.connected() && <span class="hl-pill-note">no kernel</span>}
    </span>
  );
}

/** Elapsed and remaining time; ticks here, not in the kernel. */
function Clocks({ store }: { store: Store }): JSX.Element | null {
  useStore(store, "clock", "run");
  const run = store.live?.run;
  if (!run) {
    return null;
  }
  const now = store.now();
  const left = store.running && run.expected !== null ? Math.ceil(run.expected - run.started - now) : null;
  return (
    <span class="hl-clocks">
      <span class="hl-elapsed" title="elapsed">
        {store.running || now >= 60 ? clock(now) : `${now.toFixed(now < 10 ? 2 : 1)} s`}
      </span>
      {left !== null && (
        <span class="hl-remaining" title="as it looks now">
          {left > 0 ? `about ${clock(left)} left` : "nearly done"}
        </span>
      )}
    </span>
  );
}

function Verbs({ store, onKeys }: { store: Store; onKeys: () => void }): JSX.Element {
  useStore(store, "run", "functions", "connection");
  const asking = useAsking(store);
  const what = asking.pending?.do === "rerun" && "what" in asking.pending ? asking.pending.what : null;
  const cancelling = asking.pending?.do === "cancel";
  return (
    <>
      {asking.slow && (
        <span class="hl-busy" role="status">
          {BUSY}
        </span>
      )}
      <div class="hl-verbs" role="group" aria-label="Actions">
        <ActionButton
          action="cancel"
          icon="cancel"
          cannot={cannot(store, "cancel")}
          title="Cancel the run"
          onClick={() => void asking.ask({ do: "cancel" })}
        >
          {cancelling ? "Cancelling…" : "Cancel"}
        </ActionButton>
        <ActionButton
          action="rerun-failed"
          icon="rerun"
          cannot={cannot(store, "failed")}
          title="Run what failed, was skipped or cancelled again; keep the results there are"
          onClick={() => void asking.ask({ do: "rerun", what: "failed" })}
        >
          {what === "failed" ? "Starting…" : "Re-run failed"}
        </ActionButton>
        <ActionButton
          action="run-stale"
          icon="stale"
          cannot={cannot(store, "stale")}
          title="Run what an edit made out of date"
          onClick={() => void asking.ask({ do: "rerun", what: "stale" })}
        >
          {what === "stale" ? "Starting…" : "Run stale"}
        </ActionButton>
        <ExportMenu store={store} />
        <ActionButton action="keys" label="Keys" quiet onClick={onKeys}>
          ?
        </ActionButton>
      </div>
    </>
  );
}

/** What cannot be done to functions while they run. */
function Lacks({ store }: { store: Store }): JSX.Element | null {
  useStore(store, "run");
  const { interrupt, timeout } = store.live?.run?.cannot ?? {};
  const lacks = [interrupt, timeout].filter(Boolean).join("; ");
  return lacks ? <p class="hl-lacks">{lacks}</p> : null;
}

/** For screen readers, once per run: one word per failure would be too many, and the end is told by the pill. */
function FirstFailure({ store }: { store: Store }): JSX.Element {
  const failing = useStoreValue(store, () => store.running && store.live!.counts.f > 0, "functions", "run");
  return (
    <span class="hl-hidden" role="status">
      {failing && "A function failed; f goes to it."}
    </span>
  );
}

/** What made the run fail, and what went wrong with a request. */
function Trouble({ store }: { store: Store }): JSX.Element | null {
  useStore(store, "run", "view");
  const { error } = store.ui;
  const failure = store.live?.run?.error;
  return (
    <>
      {failure && (
        <p class="hl-failure" title={failure} data-letter={RUN_LETTERS[store.live!.run!.status]}>
          {failure}{" "}
          {store.live!.counts.f > 0 && (
            <button type="button" class="hl-link" data-action="next-failure" onClick={() => openNextFailure(store)}>
              Show
            </button>
          )}
        </p>
      )}
      {error && (
        <div class="hl-alert" role="alert">
          <span>{error}</span>
          <button type="button" aria-label="Dismiss" onClick={() => store.update({ error: null })}>
            <Icon name="close" />
          </button>
        </div>
      )}
    </>
  );
}
