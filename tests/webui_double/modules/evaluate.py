"""The WebUI's perplexity table, reduced to one text file and the current model."""

import datetime

import pandas as pd
from modules import shared

_COLUMNS = ["Model", "LoRAs", "Dataset", "Perplexity", "stride", "max_length", "Date", "Comment"]


def load_past_evaluations():
    """The table of earlier evaluations, empty if there is none."""
    path = shared.user_data_dir / "logs" / "evaluations.csv"
    if not path.exists():
        return pd.DataFrame(columns=_COLUMNS)
    table = pd.read_csv(path, dtype=str)
    table["Perplexity"] = pd.to_numeric(table["Perplexity"])
    return table


past_evaluations = load_past_evaluations()


def save_past_evaluations(df):
    """Keep the table in memory and on disk."""
    global past_evaluations
    past_evaluations = df
    path = shared.user_data_dir / "logs" / "evaluations.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    df.to_csv(path, index=False)


def calculate_perplexity(models, input_dataset, stride, _max_length):
    """Yield the log so far; the last text names the perplexity of the current model."""
    import torch

    log = "Loading the input dataset...\n\n"
    yield log
    text = (shared.user_data_dir / "training" / "datasets" / f"{input_dataset}.txt").read_text(encoding="utf-8")
    ids = shared.tokenizer(text, return_tensors="pt").input_ids
    window = _max_length or shared.model.config.max_position_embeddings
    losses = []
    for begin in range(0, ids.shape[1], stride):
        part = ids[:, begin : begin + window]
        if part.shape[1] < 2:
            break
        with torch.no_grad():
            losses.append(shared.model(input_ids=part, labels=part).loss)
        yield log + f"Evaluating... {100 * begin / ids.shape[1]:.2f}%"
    perplexity = float(torch.exp(torch.stack(losses).mean()))
    add_entry_to_past_evaluations(perplexity, shared.model_name, input_dataset, stride, _max_length)
    save_past_evaluations(past_evaluations)
    yield log + f"The perplexity for `{shared.model_name}` is: {perplexity}\n\n"


def add_entry_to_past_evaluations(perplexity, model, dataset, stride, max_length):
    """Append one row to the table."""
    global past_evaluations
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    row = [
        model,
        ", ".join(shared.lora_names) or "-",
        dataset,
        perplexity,
        str(stride),
        str(max_length),
        now,
        "",
    ]
    past_evaluations = pd.concat([past_evaluations, pd.DataFrame([dict(zip(_COLUMNS, row, strict=True))])], ignore_index=True)


def generate_markdown_table():
    """The table, sorted for display."""
    return past_evaluations.sort_values(by=["Dataset", "stride", "Perplexity", "Date"])
