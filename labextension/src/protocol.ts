// What kernel and browser say to each other. Python's side of it: handoff_lab/widgets/.
//
// Functions go by their index in `Structure.ids`, nodes by their index in `State.nodes`; -1 is none.
// Times are seconds since the run started, unless they say epoch; sizes are bytes.

/** waiting, queued, running, done, cached, failed, retrying, skipped, cancelled */
export type StatusLetter = "w" | "q" | "r" | "d" | "c" | "f" | "t" | "s" | "x";

/** The graph: changes only when functions are added, changed or removed, or folded. */
export interface Structure {
  /** Another key, another structure. */
  key: string;
  name: string;
  /** A string id is itself, any other its repr. In topological order. */
  ids: string[];
  /** A letter per function: regular, inline, input ("v", a value). */
  types: string;
  groups: string[];
  /** Per function: its group, or -1. */
  group: number[];
  /** producer, consumer, producer, consumer, ... */
  edges: number[];
  /** null: too many functions to draw one by one, or nothing to lay them out with. */
  layout: Layout | null;
}

/** Pixels; y grows downwards. */
export interface Layout {
  width: number;
  height: number;
  shapes: Shape[];
  curves: Curve[];
  clusters: Cluster[];
  /** Groups that are drawn as one shape. */
  folded: number[];
}

export interface Shape {
  kind: "function" | "fold" | "group";
  /** Shortened to fit. */
  title: string;
  /** Centre. */
  x: number;
  y: number;
  width: number;
  height: number;
  /** One for a function. */
  members: number[];
}

export interface Curve {
  /** Shapes. */
  from: number;
  to: number;
  /** The d of an SVG path. */
  path: string;
  /** Edges that it stands for. */
  count: number;
  /** Values are serialized or deserialized on the way; a collocation is no dependency. */
  kind: "plain" | "serialized" | "collocated";
}

/** A frame around the functions of a group that is not folded. */
export interface Cluster {
  group: number;
  left: number;
  top: number;
  width: number;
  height: number;
}

/** What is known of functions, an entry each. */
export interface FunctionColumns {
  /** A StatusLetter per function. */
  status: string;
  node: number[];
  slot: number[];
  attempts: number[];
  queued: (number | null)[];
  started: (number | null)[];
  ended: (number | null)[];
  /** Peak memory of the last attempt. */
  peak: (number | null)[];
  /** Seconds that its inputs took to come from other nodes. */
  transfer: (number | null)[];
}

/** All that is known of a run, by columns: entry i is of function i. */
export interface State extends FunctionColumns {
  /** Counts patches; those up to it are in here. */
  seq: number;
  /** The structure that the columns belong to. */
  key: string;
  /** Epoch: the kernel's clock when this was true. */
  now: number;
  /** null: the graph was not run. */
  run: RunState | null;
  nodes: NodeState[];
  /** One line each, of functions that failed. */
  errors: Record<number, string>;
  /** Functions whose results are out of date, by an edit or by one before them. */
  stale: number[];
  /** Attempts before the last of each function. */
  earlier: AttemptRow[];
  transfers: TransferRow[];
  plan: PlanState | null;
}

export interface RunState {
  id: string;
  status: "running" | "done" | "failed" | "cancelled";
  strategy: string | null;
  /** Epoch. */
  started: number;
  ended: number | null;
  /** When the run will be over as it looks now; null: nobody knows. */
  expected: number | null;
  /** What made it fail, in one line. */
  error: string | null;
  /**
   * Why a verb cannot be used now; one that is missing here can. "failed", "stale": what `rerun` would rerun;
   * "interrupt", "timeout": what the run's backend cannot do to a function that runs.
   */
  cannot: Partial<Record<Verb | "failed" | "stale" | "interrupt" | "timeout", string>>;
}

export interface NodeState {
  name: string;
  /** How the node is shown everywhere. */
  letter: string;
  colour: string;
  /** Legible on `colour`. */
  ink: string;
  status: "up" | "draining" | "lost";
  resources: Record<string, ResourceState>;
  lost: NodeLoss | null;
}

export interface ResourceState {
  capability: number;
  claimed: number;
  /** Measured, in the unit of the capability: cores, MB. null: not measured. */
  used: number | null;
}

export interface NodeLoss {
  at: number;
  reason: string;
  /** Functions that went to other nodes. */
  moved: number[];
}

/** function, number, node, slot, started, ended, status */
export type AttemptRow = [number, number, number, number, number | null, number | null, StatusLetter];

/** function, source node, target node, started, ended, bytes */
export type TransferRow = [number, number, number, number, number, number];

export interface PlanState {
  node: number[];
  slot: number[];
  start: (number | null)[];
  end: (number | null)[];
}

// -- messages ------------------------------------------------------------------

/** Kernel to browser: what changed since the patch before it. */
export interface Patch {
  type: "patch";
  seq: number;
  key: string;
  /** Epoch: the kernel's clock. */
  now: number;
  run?: Partial<RunState>;
  functions?: Columns;
  /** Functions' errors; null takes one away. */
  errors?: Record<number, string | null>;
  /** Nodes that changed or are new; those known keep their place, new ones are appended. */
  nodes?: NodeState[];
  stale?: number[];
  /** Rows to append. */
  earlier?: AttemptRow[];
  transfers?: TransferRow[];
  plan?: PlanState;
}

/** The columns of a state for the functions `at`. */
export interface Columns extends FunctionColumns {
  at: number[];
}

/** Browser to kernel. */
export type Request =
  | { do: "state" }
  | { do: "details"; function: number }
  | { do: "cancel"; function?: number }
  | { do: "rerun"; what: "failed" | "stale" }
  | { do: "rerun"; what: "function" | "from"; function: number }
  | { do: "fold"; groups: number[] }
  | { do: "export"; format: "svg" | "html" | "csv" | "json" }
  | { do: "goto"; function: number };

export type Verb = Request["do"];

export interface Answers {
  /** null: the kernel sent structure and state anew. */
  state: null;
  details: Details;
  /** null once it is asked for; what becomes of it comes as patches. */
  cancel: null;
  rerun: null;
  /** null: a new structure comes. */
  fold: null;
  export: Download;
  goto: CellPlace;
}

export interface RequestMessage {
  type: "request";
  id: number;
  /** The run that is meant: by now the kernel may show another. */
  run: string | null;
  request: Request;
}

export interface ReplyMessage {
  type: "reply";
  id: number;
  /** Exactly one of the two is there. */
  value?: unknown;
  error?: string;
}

/** All about one function, when someone asks. */
export interface Details {
  function: number;
  id: string;
  doc: string | null;
  /** HTML of spans with Pygments' short classes, or null. */
  source: string | null;
  /** Where it is defined: a cell or file, and line. */
  place: string | null;
  cost: string;
  /** Options that differ from the defaults, such as ["max_retries", "3"]. */
  options: [string, string][];
  inputs: InputDetails[];
  result: Preview | null;
  /** Why there is no preview, where there is a result. */
  result_note: string | null;
  /** Another look may show it. */
  result_again: boolean;
  log: string;
  error: string | null;
  /** The user's own frames, then the error. */
  traceback: string | null;
  /** Every frame. */
  full_traceback: string | null;
  attempts: AttemptDetails[];
  /** Python that computes the function's result again. */
  code: string;
}

export interface InputDetails {
  /** -1: a value that was given with the function. */
  function: number;
  /** The parameter it is for, or "". */
  parameter: string;
  text: string;
  nbytes: number | null;
}

export interface Preview {
  type: string;
  text: string;
  nbytes: number | null;
  html: string | null;
  /** A data: URI. */
  image: string | null;
}

export interface AttemptDetails {
  number: number;
  node: string | null;
  slot: number | null;
  started: number | null;
  ended: number | null;
  status: StatusLetter;
  error: string | null;
}

export interface Download {
  name: string;
  mime: string;
  text: string;
}

/** The cell that defines a function; id null where the front end gave none. */
export interface CellPlace {
  id: string | null;
  label: string;
}

// -- the JupyterLab panel ---------------------------------------------------------
//
// One comm per kernel, which the kernel opens (target "handoff_lab.panel"); after a reload the browser finds it by
// comm_info. The browser says PanelMessage, the kernel PanelNews; beside a running cell, the comm's id is the key.
// Of structure, state and patch the dashboard's view is made: of the run that is followed.

export type PanelMessage = { type: "hello" } | { type: "follow"; run: string | null } | RequestMessage;

export type PanelNews =
  /** The first after a hello is whole, others have what changed. */
  | { type: "overview"; whole: true; overview: Overview }
  | { type: "overview"; whole: false; overview: Partial<Overview> }
  | { type: "structure"; structure: Structure | null }
  | { type: "state"; state: State | null }
  | Patch
  | ReplyMessage;

/** What the sidebar shows. */
export interface Overview {
  dag: string | null;
  functions: FunctionRow[];
  /** Functions that are not among `functions`, for there are too many. */
  more: number;
  /** Newest first. */
  runs: RunRow[];
  nodes: NodeState[];
  /** Of the run that structure, state and patches are about. */
  following: string | null;
}

export interface FunctionRow {
  id: string;
  /** Of the last run, or null. */
  status: StatusLetter | null;
  node: string | null;
  stale: boolean;
  /** The cell that defines it. */
  place: CellPlace | null;
}

export interface RunRow {
  id: string;
  dag: string;
  status: RunState["status"];
  running: number;
  done: number;
  failed: number;
  total: number;
  /** Epoch. */
  started: number | null;
  ended: number | null;
}
