// Written from payload.py, which says what these are; tests/page/test_payload_types.py compares them.

type Interval = [number, number | null, string, number];

interface Setting {
  options: { [name: string]: string | undefined };
  tasks: string[];
}

interface Row {
  name: string;
  title: string;
  role: "method" | "ablation" | "canary" | "reference";
  kind: string;
  family: string;
  version: number | null;
  ablation_of: string | null;
  citation: string;
  description: string;
  developed_on: string;
  tuned: string;
  settings: Setting[];
  cost: number | null;
}

interface Card {
  shift: string;
  sources: string[];
  classes: string[];
  licence: string;
  citation: string;
  size: string;
}

interface Task {
  name: string;
  family: string;
  modality: string;
  target: string;
  broken: boolean;
  metric: string;
  num_classes: number;
  supervisors: string[];
  card: Card | null;
}

interface Scores {
  score: { [name: string]: Interval | undefined };
  gain: { [name: string]: Interval | undefined };
  pgr: { [name: string]: Interval | undefined };
  failed: { [name: string]: [number, number] | undefined };
  seeds: { [name: string]: (number | null)[] | undefined };
  supervisors: number[][];
  chance: number | null;
}

interface Weights {
  values: (number[] | null)[];
  correlation: number | null;
}

interface PayloadCell {
  n_train: number;
  n_test: number;
  seeds: number[];
  has_gap: boolean | null;
  cost: { [name: string]: number | undefined };
  weights: { [name: string]: Weights | undefined };
  own: Scores;
  accuracy?: Scores;
}

interface View {
  tasks: number;
  families: number;
  gap_tasks: number;
  score: { [name: string]: Interval | undefined };
  plain: { [name: string]: Interval | undefined };
  gain: { [name: string]: Interval | undefined };
  pgr: { [name: string]: Interval | undefined };
  failed: { [name: string]: Interval | undefined };
  pgr_mean_supervisor: { [name: string]: Interval | undefined };
  failed_mean_supervisor: { [name: string]: Interval | undefined };
  heterogeneity: { [name: string]: [string, string] | undefined };
  rank: { [name: string]: [number, number] | null | undefined };
  ties: string;
  extras: string;
}

interface Curve {
  base: string;
  kind: string;
  method: string;
  levels: number[];
  means: number[];
  halves: (number | null)[];
}

interface Claim {
  claim: string;
  found: string;
}

interface Suite {
  name: string;
  description: string;
  conditions: string[];
  modalities: string[];
  metrics: string[];
  baseline: string;
  focus: string;
  floor: string;
  ceiling: string;
  cost_unit: string;
  rows: Row[];
  tasks: Task[];
  cells: { [name: string]: PayloadCell | undefined };
  views: { [name: string]: View | undefined };
  stress: Curve[];
  claims: Claim[];
  families: Claim[];
  facts: { [name: string]: string | undefined };
  problems: string[];
}

interface Payload {
  suites: Suite[];
}
