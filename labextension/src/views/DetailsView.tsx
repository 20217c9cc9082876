// All about one function: fetched when it is selected, and again when its status changes.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { useStore } from "../hooks";
import type { Details, StatusLetter } from "../protocol";
import type { Store } from "../store";
import { BUSY, cannot, cannotCancel, SLOW_MS, useAsking } from "./asking";
import { Attempts, Code, Inputs, Log, Options, Result, Traceback } from "./DetailsParts";
import { duration } from "./format";
import { ActionButton, FunctionStatus, NodeBadge } from "./parts";

const ASKING = "Asking the kernel…";

interface Props {
  store: Store;
  at: number;
  /** Above 0 and changed: take the focus. */
  focus: number;
  onClose: () => void;
  /** Goes to the cell that defines the function, where that can be done. */
  onGoto?: ((at: number) => void) | undefined;
}

export function DetailsView({ store, at, focus, onClose, onGoto }: Props): JSX.Element {
  useStore(store, "structure", "functions", "run", "connection");
  const id = store.structure?.ids[at] ?? "";
  const { details, missing, again } = useDetails(store, at);
  const heading = useRef<HTMLHeadingElement>(null);
  const body = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (focus > 0) {
      heading.current?.focus();
    }
  }, [focus]);
  useEffect(() => body.current?.scrollTo(0, 0), [at]);
  const failure = details?.error ?? store.live?.errors.get(at);
  return (
    <section class="hl-details" data-part="details" aria-label={`Details of ${id}`}>
      <div class="hl-details-head">
        <h3 ref={heading} tabIndex={-1}>
          {id}
        </h3>
        <ActionButton action="close" icon="close" label="Close details" quiet onClick={onClose} />
      </div>
      <div class="hl-details-body" ref={body}>
        <Facts store={store} at={at} />
        <Verbs store={store} at={at} code={details?.code ?? null} />
        {failure && <p class="hl-failure">{failure}</p>}
        {!details && <p class="hl-empty">{missing}</p>}
        {details && (
          <>
            {details.doc && <p class="hl-doc">{details.doc}</p>}
            <Traceback details={details} />
            <Result details={details} onAgain={again} />
            <Inputs details={details} store={store} />
            <Code details={details} onGoto={onGoto && (() => onGoto(at))} />
            <Log details={details} />
            <Attempts details={details} />
            <Options details={details} />
          </>
        )}
      </div>
    </section>
  );
}

interface Shown {
  details: Details | null;
  /** Why there are none. */
  missing: string;
  /** Ask once more. */
  again: () => void;
}

function useDetails(store: Store, at: number): Shown {
  const [details, setDetails] = useState<Details | null>(null);
  const [missing, setMissing] = useState(ASKING);
  const [count, setCount] = useState(0);
  const { live, structure, source } = store;
  const facts = [store.status(at), live?.attempts[at], live?.stale.has(at)];
  const version = [structure?.key, live?.run?.id, at, ...facts, source.connected(), count].join();
  useEffect(() => {
    if (!source.connected()) {
      setMissing("No kernel is there to tell more.");
      return;
    }
    setMissing(ASKING);
    let over = false;
    const timer = setTimeout(() => setMissing(BUSY), SLOW_MS);
    void store.ask({ do: "details", function: at }).then((answer) => {
      clearTimeout(timer);
      if (!over) {
        setMissing("The kernel could not tell more.");
        setDetails((before) => answer ?? before);
      }
    });
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [version]);
  return { details: details?.function === at ? details : null, missing, again: () => setCount(count + 1) };
}

function Facts({ store, at }: { store: Store; at: number }): JSX.Element {
  useStore(store, "functions", "clock");
  const node = store.nodeOf(at);
  const slot = store.live?.slot[at] ?? -1;
  const time = store.duration(at);
  return (
    <p class="hl-facts">
      <FunctionStatus store={store} at={at} />
      {node && (
        <span class="hl-at-node">
          <NodeBadge node={node} /> {node.name}
          {slot >= 0 && `, slot ${slot}`}
        </span>
      )}
      {time !== null && <span>{duration(time)}</span>}
      {store.live?.stale.has(at) && <span class="hl-stale-mark">stale: it or one before it was edited</span>}
    </p>
  );
}

const CANCELLABLE: readonly StatusLetter[] = ["w", "q", "r", "t"];

function Verbs({ store, at, code }: { store: Store; at: number; code: string | null }): JSX.Element {
  const asking = useAsking(store);
  const [copied, setCopied] = useState(false);
  useEffect(() => setCopied(false), [at]);
  const rerun = cannot(store, "rerun");
  return (
    <div class="hl-verbs">
      <ActionButton
        action="rerun"
        icon="rerun"
        cannot={rerun}
        title="Run this function again"
        onClick={() => void asking.ask({ do: "rerun", what: "function", function: at })}
      >
        Re-run
      </ActionButton>
      <ActionButton
        action="rerun-from"
        icon="from"
        cannot={rerun}
        title="Run this function and all that depend on it again"
        onClick={() => void asking.ask({ do: "rerun", what: "from", function: at })}
      >
        Re-run from here
      </ActionButton>
      {store.running && CANCELLABLE.includes(store.status(at)) && (
        <ActionButton
          action="cancel-function"
          icon="cancel"
          cannot={cannotCancel(store, at)}
          title="Cancel this function; those that depend on it are skipped"
          onClick={() => void asking.ask({ do: "cancel", function: at })}
        >
          {asking.pending?.do === "cancel" ? "Cancelling…" : "Cancel"}
        </ActionButton>
      )}
      <ActionButton
        action="copy-code"
        icon="copy"
        cannot={code === null ? "the kernel has not told it yet" : null}
        title="Copy Python that computes this result again"
        onClick={() => void copy(code ?? "").then(setCopied)}
      >
        {copied ? "Copied" : "Copy code"}
      </ActionButton>
      {asking.slow && (
        <span class="hl-busy" role="status">
          {BUSY}
        </span>
      )}
    </div>
  );
}

/** Pages over plain http have no clipboard: there the old way is tried. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    document.body.append(area);
    const focused = document.activeElement as HTMLElement | null;
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}
