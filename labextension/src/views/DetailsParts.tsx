// The parts of a function's details.

import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";

import type { Details } from "../protocol";
import type { Store } from "../store";
import { bytes, duration, moment } from "./format";
import { Html } from "./Html";
import { StatusText } from "./parts";

interface PartProps {
  title: string;
  note?: ComponentChildren;
  closed?: boolean;
  children: ComponentChildren;
}

function Part({ title, note, closed, children }: PartProps): JSX.Element {
  return (
    <details class="hl-detail" open={!closed}>
      <summary>
        {title} {note && <small>{note}</small>}
      </summary>
      {children}
    </details>
  );
}

function Text({ children, label }: { children: string; label: string }): JSX.Element {
  return (
    <pre class="hl-text" role="group" tabIndex={0} aria-label={label}>
      {children}
    </pre>
  );
}

export function Traceback({ details }: { details: Details }): JSX.Element | null {
  const [all, setAll] = useState(false);
  const { traceback, full_traceback: full } = details;
  const text = all || !traceback ? full : traceback;
  if (!text) {
    return null;
  }
  return (
    <Part title="Traceback" note={all || !traceback ? "every frame" : "your lines"}>
      <div class="hl-traceback">
        <Text label="Traceback">{text}</Text>
      </div>
      {traceback && full && full !== traceback && (
        <label class="hl-check">
          <input type="checkbox" checked={all} onChange={() => setAll(!all)} /> All frames
        </label>
      )}
    </Part>
  );
}

export function Result({ details, onAgain }: { details: Details; onAgain: () => void }): JSX.Element | null {
  const { result, result_note: note } = details;
  if (!result) {
    return note ? (
      <Part title="Result">
        <p class="hl-remark">
          {note}.{" "}
          {details.result_again && (
            <button type="button" class="hl-link" data-action="look-again" onClick={onAgain}>
              Look again
            </button>
          )}
        </p>
      </Part>
    ) : null;
  }
  const size = result.nbytes === null ? "" : `, ${bytes(result.nbytes)}`;
  return (
    <Part title="Result" note={`${result.type}${size}`}>
      {result.html && <Html class="hl-html" label="Result" html={result.html} />}
      {result.image?.startsWith("data:image/") && <img class="hl-image" src={result.image} alt={result.text} />}
      {!result.html && !result.image && <Text label="Result">{result.text}</Text>}
      {note && <p class="hl-remark">{note}</p>}
    </Part>
  );
}

export function Inputs({ details, store }: { details: Details; store: Store }): JSX.Element | null {
  if (details.inputs.length === 0) {
    return null;
  }
  return (
    <Part title="Inputs">
      <ul class="hl-inputs">
        {details.inputs.map((input, place) => (
          <li key={place}>
            {input.parameter && <code>{input.parameter}</code>}
            {input.function >= 0 ? (
              <button type="button" class="hl-link" onClick={() => store.open(input.function)}>
                {store.structure?.ids[input.function] ?? input.text}
              </button>
            ) : (
              <code>{input.text}</code>
            )}
            {input.nbytes !== null && <small>{bytes(input.nbytes)}</small>}
          </li>
        ))}
      </ul>
    </Part>
  );
}

export function Code({ details, onGoto }: { details: Details; onGoto?: (() => void) | undefined }): JSX.Element | null {
  const { source, place } = details;
  if (!source && !place) {
    return null;
  }
  return (
    <Part
      title="Source"
      note={
        place && onGoto ? (
          <button type="button" class="hl-link" data-action="goto" onClick={onGoto}>
            {place}
          </button>
        ) : (
          place
        )
      }
    >
      {source && <Html class="hl-source" label="Source" html={`<pre>${source}</pre>`} />}
    </Part>
  );
}

export function Log({ details }: { details: Details }): JSX.Element | null {
  return details.log ? (
    <Part title="Log">
      <Text label="Log">{details.log}</Text>
    </Part>
  ) : null;
}

export function Attempts({ details }: { details: Details }): JSX.Element | null {
  if (details.attempts.length < 2) {
    return null;
  }
  return (
    <Part title="Attempts">
      <table class="hl-small-table">
        <thead>
          <tr>
            {["No.", "Status", "Node", "Started", "Ran"].map((title) => (
              <th key={title} scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {details.attempts.map((attempt) => {
            const { started, ended, slot } = attempt;
            return (
              <tr key={attempt.number} title={attempt.error ?? undefined}>
                <td>{attempt.number}</td>
                <td>
                  <StatusText status={attempt.status} />
                </td>
                <td>
                  {attempt.node ?? "–"}
                  {slot !== null && slot >= 0 && `, slot ${slot}`}
                </td>
                <td>{started === null ? "–" : moment(started)}</td>
                <td>{duration(started === null || ended === null ? null : ended - started)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Part>
  );
}

export function Options({ details }: { details: Details }): JSX.Element | null {
  const cost: [string, string][] = details.cost ? [["cost", details.cost]] : [];
  const rows = [...cost, ...details.options];
  return rows.length > 0 ? (
    <Part title="Cost and options">
      <dl class="hl-options">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Part>
  ) : null;
}
