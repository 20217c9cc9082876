import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { KEYS } from "./keys";
import { ActionButton } from "./parts";

export function KeysHelp({ onClose }: { onClose: () => void }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.focus();
    return () => before?.focus();
  }, []);
  return (
    <div class="hl-keys" role="dialog" aria-label="Keys" tabIndex={-1} ref={box}>
      <div class="hl-keys-head">
        <b>Keys</b>
        <ActionButton action="close" icon="close" label="Close" quiet onClick={onClose} />
      </div>
      <dl>
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>{key}</dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
