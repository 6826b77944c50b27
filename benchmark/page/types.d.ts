// Types of the page's script; those of what it is given are in payload.d.ts.

/** A function is a handler of the event of that name; `true` is an attribute without a value; null, undefined and false are left out. */
type Attributes = { [name: string]: string | number | boolean | null | undefined | (() => void) };
type Child = Node | string | false | null | undefined | Child[];

/** [low, high] */
type Extent = [number, number];
type Scale = (value: number) => number;
/** Index of a marked method by name; -1 for any other. */
type MarkOf = (name: string) => number;
type Point = { row: Row; interval: Interval };
/** A supervisor of one task and seed. */
type WeightPoint = { score: number; weight: number; text: string };
type TaskCell = { task: Task; cell: PayloadCell };
/** A line of a figure: one task. */
type TaskLine = { label: string; group: string; floor?: number; ceiling?: number; points: Point[] };

/** What every column has: the value to sort by (null: unknown), and whether it is a mean that lacks tasks or seeds. */
type AnyColumn = { key: string; label: string; title: string; ascending: boolean; partial: (row: Row) => boolean };
/** `best` chooses the best of means, null: none is. */
type IntervalColumn = AnyColumn & {
  interval: (row: Row) => Interval | undefined;
  value: (row: Row) => number | null;
  best: ((...means: number[]) => number) | null;
};
type PlainColumn = AnyColumn & { interval: null; value: (row: Row) => number | string | null; text: (row: Row) => string };
type Column = IntervalColumn | PlainColumn;

type Filter = "condition" | "modality" | "supervisors" | "metric";
/** What is shown: the suite's index, the filters, `find` (text), the column to sort by, names of marked methods, of open
 *  tasks, and of the method that is open ("": none). */
type State = { [filter in Filter]: string } & {
  suite: number;
  canaries: boolean;
  ablations: boolean;
  find: string;
  sort: string;
  descending: boolean;
  marks: string[];
  open: Set<string>;
  method: string;
};
type Actions = { sort: (column: Column) => void; open: (name: string) => void; mark: (name: string) => void; markOf: MarkOf };
