"""What the command line shows: progress bar, reports, samples. Texts only; nothing is decided here."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any

from .runs.store import RunFolder


class ReadingBar:
    """A bar for the preparation of data, drawn on stderr; a :data:`data.progress.Progress`."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, share: float, what: str) -> None:
        """Show a share, 0 to 1, and words; at 1 the bar is done."""
        from tqdm import tqdm

        if self._bar is None:
            if share >= 1:
                return
            self._bar = tqdm(total=100, bar_format="{percentage:3.0f}%|{bar:25}| {desc}", leave=False)
        self._bar.n = 100 * share
        self._bar.set_description_str(what, refresh=False)
        self._bar.refresh()
        if share >= 1:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TrainingDisplay:
    """Shows a run on a terminal; takes its events as a listener.

    Args:
        visible: False on ranks that must stay silent.

    Attributes:
        folder: the run's folder, once it is known.
        is_training: steps are being made.
        is_saving: the adapter is being written.
    """

    def __init__(self, visible: bool = True) -> None:
        self.folder: RunFolder | None = None
        self.is_training = False
        self.is_saving = False
        self.visible = visible
        self._total, self._epochs = 0, 0.0
        self._bar: Any = None
        self._reading = ReadingBar()
        self._samples: dict[str, dict[str, str]] = {}
        self._table: list[dict[str, Any]] = []
        self._findings: list[dict[str, Any]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        """One event of the run."""
        if not self.visible:
            return
        handler = getattr(self, f"_on_{event}", None)
        if handler:
            handler(fields)

    def say(self, text: str) -> None:
        """A line above the progress bar. May be called from a signal handler."""
        if not self.visible:
            return
        try:
            if self._bar is not None:
                self._bar.write(text)
            else:
                print(text, flush=True)
        except RuntimeError as error:  # the handler interrupted just such a line
            if "reentrant" not in str(error):
                raise

    def close(self, outcome: Any) -> None:
        """The last words on the run."""
        self._reading.close()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        lines = [*table_lines(self._table), *diagnosis_lines(self._findings), *outcome_lines(outcome, self._samples)]
        for line in lines if self.visible else []:
            print(line, flush=True)

    def _on_stage(self, fields: dict[str, Any]) -> None:
        self.is_training, self.is_saving = False, fields["stage"] == "saving"
        if fields.get("share") is not None:
            return self._reading(fields["share"], fields["detail"])
        self._reading.close()
        if fields.get("detail"):
            self.say(f"- {fields['detail']}")

    def _on_message(self, fields: dict[str, Any]) -> None:
        self._reading.close()
        self.say(f"{'warning: ' if fields['level'] == 'warning' else ''}{fields['text']}")

    def _on_prepared(self, fields: dict[str, Any]) -> None:
        self._reading.close()
        for line in report_lines(fields["report"]):
            self.say(line)

    def _on_plan(self, fields: dict[str, Any]) -> None:
        for line in plan_lines(fields):
            self.say(line)
        self._total = fields["num_steps"]
        self._epochs = fields["num_epochs"]

    def _on_sample(self, fields: dict[str, Any]) -> None:
        self._samples.setdefault(fields["prompt"], {})[fields["when"]] = fields["answer"]

    def _on_evaluation(self, fields: dict[str, Any]) -> None:
        self.say(f"epoch {fields['epoch']:.2f}: evaluation loss {fields['loss']:.4f}")

    def _on_understanding(self, fields: dict[str, Any]) -> None:
        from .evaluation.phase_table import GAIN_TITLES, gain_words

        found = (f"{GAIN_TITLES[name]} {gain_words(gain)}" for name, gain in fields["gains"].items())
        self.say(f"epoch {fields['epoch']:.2f}: {', '.join(found)}")

    def _on_phase_table(self, fields: dict[str, Any]) -> None:
        self._table = fields["rows"]

    def _on_diagnosis(self, fields: dict[str, Any]) -> None:
        self._findings = fields["findings"]

    def _on_checkpoint(self, fields: dict[str, Any]) -> None:
        self.say(f"saved {fields['folder']}")

    def _on_paused(self, fields: dict[str, Any]) -> None:
        self.say(f"paused at step {fields['step']}")

    def _on_unpaused(self, fields: dict[str, Any]) -> None:
        self.say(f"goes on at step {fields['step']}, after {duration(fields['seconds'])}")

    def _on_step(self, fields: dict[str, Any]) -> None:
        from tqdm import tqdm

        self.is_training = True
        if self._bar is None:
            layout = "{percentage:3.0f}%|{bar:25}| {n_fmt}/{total_fmt} {postfix}"
            self._bar = tqdm(total=self._total, bar_format=layout, file=sys.stdout, mininterval=0.2)
        self._bar.n = fields["step"]
        rate = fields["tokens_per_second"] or 0
        self._bar.set_postfix_str(
            f"epoch {fields['epoch']:.2f}/{self._epochs:g} loss {fields['smoothed_loss']:.3f} lr {fields['lr']:.2e} "
            f"{rate:.0f} tokens/s {duration(fields['time_left'])} left",
            refresh=False,
        )
        self._bar.update(0)


def duration(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 1:02:03."""
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(num_bytes: float) -> str:
    """Bytes as MB or GB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def report_lines(report: dict[str, Any]) -> list[str]:
    """The data report in short lines."""
    from .data.report import DataReport

    found = DataReport.from_dict(report)
    origin = "found prepared" if found.cached else "prepared"
    return [f"data ({origin} in {found.seconds:.1f} s):", *(f"  {line}" for line in found.lines())]


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """The plan in short lines."""
    memory = plan.get("memory", {})
    lines = [
        f"plan: {plan['num_steps']} steps in {plan['num_epochs']:g} epochs ({plan['steps_per_epoch'][0]} per epoch), "
        f"batch {plan['batch_size']} x accumulation {plan['accumulation']}"
        + (f" x {plan['world_size']} processes" if plan["world_size"] > 1 else ""),
        f"  learning rate {plan['learning_rate']:g}, {plan['schedule']}, warm-up {plan['warmup_steps']} steps, {plan['precision']}",
        f"  {plan['method']} on {', '.join(plan['targets']) or 'everything'}: {plan['num_trained_parameters']:,} trained weights, "
        f"result {size(plan['result_bytes'])}",
    ]
    if memory:
        lines.append(f"  memory, estimated: {size(memory['total'])} (available {size(memory['available'])})")
    return lines


def check_lines(result: Any) -> list[str]:
    """What Check found."""
    if result.problems:
        return ["This cannot start:", *(f"  {problem}" for problem in result.problems)]
    lines = [*report_lines(result.report), *plan_lines(result.plan)]
    lines += [f"warning: {warning}" for warning in result.warnings]
    for field, (value, reason) in result.suggestions.items():
        lines.append(f"suggestion: --set {field}={value}  ({reason})")
    return lines


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The phases in numbers; nothing for a run of one phase of which nothing was measured."""
    from .evaluation.phase_table import text_table

    return ["", *text_table(rows)] if len(rows) > 1 else []


def diagnosis_lines(findings: list[dict[str, Any]]) -> list[str]:
    """What the curves show, and what to change."""
    return [line for found in findings for line in ("", f"{found['kind']}: {found['words']}", f"  {found['advice']}")]


def outcome_lines(outcome: Any, samples: dict[str, dict[str, str]]) -> list[str]:
    """How a run ended, with the answers before and after."""
    lines = []
    for prompt, answers in samples.items():
        if "after" in answers:
            lines += ["", f"prompt: {prompt}", f"before: {answers.get('before', '')}", f"after:  {answers['after']}"]
    lines += ["", f"{outcome.status}: {outcome.message}"]
    if outcome.remedy:
        lines.append(f"what to do: {outcome.remedy}")
    if outcome.adapter_saved:
        lines.append(f"adapter: {outcome.folder.path}")
    if outcome.folder.graph.is_file():
        lines.append(f"graph:   {outcome.folder.graph}")
    return lines


def preview_lines(preview: Any, *, colour: bool | None = None) -> list[str]:
    """A page of samples: trained tokens in green, special tokens in blue; brackets around trained ones where there is no colour.

    Args:
        preview: a ``data.preview.Preview``.
        colour: whether the terminal shows colours; None = look.
    """
    colour = sys.stdout.isatty() if colour is None else colour
    marks = ", ".join(_coloured(word, word) for word in _COLOURS)
    legend = marks if colour else "trained tokens are in [brackets]"
    unit = "packs" if preview.samples and preview.samples[0].pack is not None else "samples"
    lines = [
        f"{preview.num_entries:,} {unit}, {preview.mean_fill:.0%} full on average (cutoff {preview.capacity:,} tokens); {legend}",
        "filled by (tenths of the cutoff, shortest first): " + " ".join(f"{number:,}" for number in preview.fill),
    ]
    for sample in preview.samples:
        lines += [*_heading(sample, colour), _tokens(sample.pieces, colour)]
    return lines


_COLOURS = {"trained": 32, "special": 34, "overlap": 33, "hard cut": 31}  # codes of terminals


def _coloured(text: str, kind: str) -> str:
    return f"\033[{_COLOURS[kind]}m{text}\033[0m"


def _heading(sample: Any, colour: bool) -> list[str]:
    """The lines above a sample: a hard cut, if it begins behind one, and its facts."""
    facts = [f"sample {sample.number + 1}", f"{sample.num_tokens} tokens", f"{sample.num_trained} trained"]
    if sample.pack is not None:
        facts.insert(0, f"pack {sample.pack + 1}")
    if sample.overlap:
        facts.append(_coloured("overlap", "overlap") if colour else "overlap")
    from .data.preview import HARD_CUT

    cut = f"===== {HARD_CUT} ====="
    return [_coloured(cut, HARD_CUT) if colour else cut] * (sample.border == HARD_CUT) + [f"--- {', '.join(facts)}"]


def _tokens(pieces: list[Any], colour: bool) -> str:
    """Neighbours of one kind are marked together."""
    parts = []
    for (trained, special), group in groupby(pieces, key=lambda piece: (piece.trained, piece.special)):
        text = "".join(piece.text for piece in group)
        if colour:
            kind = "trained" if trained else "special" if special else ""
            parts.append(_coloured(text, kind) if kind else text)
        else:
            parts.append(f"[{text}]" if trained else text)
    return "".join(parts).replace("][", "")
