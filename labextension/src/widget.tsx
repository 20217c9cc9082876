// The widget: what anywidget calls, once per model and once per view of it.

import "../style/index.css";

import type { InitializeProps, RenderProps } from "@anywidget/types";
import { render } from "preact";

import { type Model, ModelSource, type Traits } from "./model_source";
import { Store } from "./store";
import { App } from "./views/App";

// anywidget calls this once per model, so that all views of a model share one store.
export default function widget() {
  let store: Store;
  return {
    initialize({ model }: InitializeProps<Traits>): () => void {
      const source = new ModelSource(model as Model);
      store = new Store(source);
      return () => {
        store.dispose();
        source.dispose();
      };
    },
    render({ el }: RenderProps<Traits>): () => void {
      render(<App store={store} />, el);
      return () => render(null, el);
    },
  };
}
