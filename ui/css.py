"""The tab's style sheet: fits gradio's and the WebUI's light and dark theme, from 390 pixels wide upwards.

All classes and ids begin with tph-, so nothing else on the WebUI's page changes. Gradio repeats each rule with a prefix and splits
selectors at every comma for that: no comma may stand inside parentheses of a selector.
"""

CSS = """
.tph-tab {
    --tph-good: #16a34a; --tph-bad: #dc2626; --tph-warn: #d97706; --tph-line: #3b82f6; --tph-second: #f59e0b;
    --tph-edge: var(--border-color-primary, rgba(128, 128, 128, .3));
    --tph-muted: color-mix(in srgb, var(--body-text-color, #808080) 62%, transparent);
    --tph-surface: var(--block-background-fill, transparent);
    gap: 14px !important;
}
.dark .tph-tab { --tph-bad: #f87171; --tph-good: #4ade80; --tph-warn: #fbbf24; --tph-line: #60a5fa; }
#tph-problems-box:not(:has(.tph-card)):not(:has(#tph-note)), #tph-check-box:has(#tph-check:empty), #tph-preview-box:has(#tph-preview:empty), #tph-curve-box:has(#tph-curve:empty) { display: none !important; }
.tph-tab .pending { opacity: 1 !important; }
.tph-tab .generating { border-color: transparent !important; animation: none !important; }
.tph-columns { align-items: flex-start !important; gap: 20px !important; }
.tph-form, .tph-run { gap: 14px !important; }
.tph-run { position: sticky; top: 12px; max-height: calc(100vh - 24px); overflow-y: auto; scrollbar-width: thin; flex-wrap: nowrap !important; }
.tph-run > * { flex-shrink: 0; }

.tph-group { border: 1px solid var(--tph-edge) !important; border-radius: 10px !important; padding: 12px 16px 16px !important; gap: 8px !important;
    background: var(--tph-surface); }
.tph-group h3 { margin: 0 0 2px; font-size: 15px; font-weight: 650; color: var(--body-text-color, inherit); }
.tph-grid { display: grid !important; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px 18px !important; align-items: stretch; }
.tph-grid > .form { display: contents !important; }
.tph-grid .tph-wide { grid-column: 1 / -1; }
.tph-tab .form { border: 0 !important; background: transparent !important; box-shadow: none !important; overflow: visible !important; }
.tph-refreshed { flex-wrap: nowrap !important; align-items: stretch !important; gap: 6px !important; min-width: 0; }
.tph-refreshed > .form { flex: 1 1 auto; min-width: 0; display: flex; }
.tph-tab .tph-refresh { align-self: flex-end; flex: none; min-width: 42px !important; width: 42px; height: 42px; padding: 0; font-size: 17px !important; }
.tph-tab .tph-field { border: 0 !important; box-shadow: none; padding: 0 !important; border-radius: 8px !important; background: transparent !important;
    overflow: visible !important; width: 100%; display: flex; flex-direction: column; }
.tph-tab .tph-field.hidden, .tph-tab .hide { display: none !important; }
.tph-field > .container { display: flex; flex-direction: column; flex: 1; }
.tph-field > .container > :last-child { margin-top: auto; }
.tph-tab .tph-field [data-testid="block-info"] { margin-bottom: 2px; font-weight: 600; font-size: 14px; color: var(--body-text-color, inherit); }
.tph-tab .tph-field [data-testid="block-info"] + div, .tph-tab .tph-flag > div:not(.wrap) { font-size: 12.5px; line-height: 1.4; color: var(--tph-muted); margin-bottom: 6px; }
.tph-tab .tph-field input:not(.border-none):not([type="checkbox"]):not([type="radio"]), .tph-tab .tph-field textarea, .tph-tab .tph-field .container > .wrap {
    border: 1px solid var(--tph-edge) !important; border-radius: 8px; background: var(--input-background-fill); }
.tph-tab .tph-field input:not(.border-none):not([type="checkbox"]):not([type="radio"]), .tph-tab .tph-field .container > .wrap { min-height: 42px; }
.tph-tab .tph-flag { justify-content: flex-end; }
.tph-buttons { gap: 10px !important; align-items: stretch !important; }
.tph-buttons button { padding: 8px 10px; font-size: 14px !important; min-width: 0 !important; }

.tph-tab .prose, .tph-tab .html-container { padding: 0; }
.tph-card { border: 1px solid var(--tph-edge); border-radius: 10px; padding: 12px 14px; background: var(--tph-surface); font-size: 14px; line-height: 1.5;
    color: var(--body-text-color, inherit); overflow-wrap: anywhere; }
.tph-card p { margin: 0 0 6px; }
.tph-card > :last-child { margin-bottom: 0; }
.tph-card ul { margin: 4px 0 6px; padding-left: 20px; list-style: disc; }
.tph-card li { display: list-item; margin: 2px 0; }
.tph-card.tph-bad { border-color: var(--tph-bad); border-left-width: 4px; }
.tph-card.tph-good { border-color: var(--tph-good); border-left-width: 4px; margin-top: 14px; }
.tph-muted { color: var(--tph-muted); }
.tph-error { color: var(--tph-bad); font-weight: 600; white-space: pre-wrap; }
#tph-note { margin: 8px 0 0; font-size: 14px; color: var(--tph-muted); }

.tph-badge { display: inline-block; margin-right: 10px; padding: 1px 9px; border-radius: 99px; font-size: 12px; font-weight: 650; color: var(--tph-muted);
    border: 1px solid currentColor; }
.tph-badge.tph-is-running { color: var(--tph-line); }
.tph-badge.tph-is-finished { color: var(--tph-good); }
.tph-badge.tph-is-interrupted { color: var(--tph-warn); }
.tph-badge.tph-is-failed, .tph-badge.tph-is-died { color: var(--tph-bad); }
.tph-stage { margin-left: 10px; color: var(--tph-muted); }
.tph-bar { height: 8px; margin: 10px 0; border-radius: 99px; overflow: hidden; background: color-mix(in srgb, currentColor 14%, transparent); }
.tph-bar > div { height: 100%; border-radius: 99px; background: var(--tph-line); transition: width .3s; }
.tph-facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 6px 14px; margin: 0 0 6px; }
.tph-facts .tph-wide { grid-column: 1 / -1; }
.tph-facts dt { font-size: 12px; color: var(--tph-muted); }
.tph-facts dd { margin: 0; font-variant-numeric: tabular-nums; font-weight: 600; }
.tph-card .tph-messages { padding-left: 0; list-style: none; }
.tph-messages li { padding-left: 9px; border-left: 3px solid var(--tph-edge); margin: 5px 0; }
.tph-messages .tph-level-warning { border-color: var(--tph-warn); }
.tph-messages .tph-level-error { border-color: var(--tph-bad); }
.tph-badge.tph-is-paused { color: var(--tph-warn); }

#tph-controls { gap: 10px !important; padding: 12px !important; }
.tph-button-grid { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); }
.tph-values { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px !important; align-items: start !important; }
.tph-values > .form { display: contents !important; }
.tph-value { flex-wrap: nowrap !important; align-items: flex-end !important; gap: 4px !important; min-width: 0 !important; }
.tph-value > .form { flex: 1 1 auto; min-width: 0 !important; }
.tph-tab .tph-value .tph-field { min-width: 0 !important; }
.tph-tab .tph-value input, .tph-tab .tph-value textarea { display: block; min-height: 38px !important; height: 38px; padding: 6px 8px !important; }
.tph-tab .tph-value [data-testid="block-info"] { white-space: nowrap; overflow: visible; font-size: 13px !important; }
.tph-tab .tph-value [data-testid="block-info"] + div, .tph-tab .tph-chart-choice [data-testid="block-info"] + div { margin-bottom: 0; }
.tph-tab .tph-apply { flex: none; height: 38px; padding: 4px 9px; font-size: 13px !important; min-width: 0 !important; }
#tph-control-note p, #tph-checkpoint-note p, #tph-range-note p { margin: 0; font-size: 13px; }
#tph-control-note-box:not(:has(p)), #tph-checkpoint-note-box:not(:has(p)), #tph-range-note-box:not(:has(p)), #tph-discard-box:empty, #tph-samples-box:not(:has(.tph-card)) { display: none !important; }
#tph-discard-question, #tph-checkpoint-question { margin: 0; font-size: 14px; font-weight: 600; }

.tph-choosing { gap: 8px !important; }
.tph-chart-choice { display: grid !important; grid-template-columns: 1fr 1fr 1.5fr; gap: 10px !important; }
.tph-chart-choice.tph-ends { grid-template-columns: 1fr 1fr; }
.tph-tab .tph-chart-choice .tph-field { min-width: 0 !important; }
.tph-tab .tph-chart-choice input { font-size: 13px !important; min-width: 0; }
.tph-tab .tph-chart-choice .icon-wrap { margin-right: 0 !important; right: 2px !important; }
.tph-tab .tph-chart-choice .wrap-inner { padding-left: 6px !important; padding-right: 2px !important; }
.tph-chart-choice > .form { display: contents !important; }
.tph-prompt { margin: 10px 0 4px !important; font-weight: 600; white-space: pre-wrap; }
.tph-answers { display: flex; gap: 10px; overflow-x: auto; scrollbar-width: thin; padding-bottom: 4px; align-items: stretch; }
.tph-answer { flex: 1 0 min(200px, 70%); max-width: 100%; padding: 6px 9px; border: 1px solid var(--tph-edge); border-radius: 8px; font-size: 13px; }
.tph-answer > b { display: block; font-size: 12px; font-weight: 600; color: var(--tph-muted); }
.tph-answer p { margin: 2px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.tph-answer[data-when="before"] { border-style: dashed; }
.tph-left-out { flex: 0 0 90px; align-self: center; margin: 0; font-size: 12px; }
#tph-log-box { max-height: 320px; overflow-y: auto; scrollbar-width: thin; }
.tph-log { margin: 0; padding: 0; list-style: none; font-size: 13px; line-height: 1.45; }
.tph-log li { padding: 3px 0 3px 9px; border-left: 3px solid transparent; overflow-wrap: anywhere; }
.tph-log li.tph-level-warning { border-color: var(--tph-warn); } .tph-log li.tph-level-error { border-color: var(--tph-bad); }
.tph-log time { color: var(--tph-muted); font-variant-numeric: tabular-nums; margin-right: 6px; }

.tph-tab table.tph-table { width: 100%; border-collapse: collapse; margin: 4px 0 8px; font-size: 14px; table-layout: auto; }
.tph-tab table.tph-table, .tph-tab .tph-table thead, .tph-tab .tph-table tr, .tph-tab .tph-card tr { border: 0 !important; background: transparent !important; }
.tph-tab .tph-table th, .tph-tab .tph-table td {
    padding: 4px 8px 4px 0; border: 0 !important; border-bottom: 1px solid var(--tph-edge) !important; text-align: left; vertical-align: top; background: transparent; }
.tph-tab .tph-table th { width: 1%; padding-right: 16px; white-space: nowrap; font-weight: 400; color: var(--tph-muted); }
.tph-rows summary { cursor: pointer; font-weight: 600; }
.tph-rows code, .tph-path code { font-size: 12px; overflow-wrap: anywhere; white-space: pre-wrap; }

#tph-preview { max-height: 70vh; overflow-y: auto; scrollbar-width: thin; }
.tph-legend-tokens { font-size: 12.5px; display: flex; flex-wrap: wrap; gap: 4px 12px; }
.tph-tab .tph-sample { margin: 0 0 12px; padding-left: 10px; border-left: 3px solid var(--tph-edge); }
.tph-tab .tph-sample.tph-is-overlap { border-left-color: var(--tph-second); }
.tph-sample > p { margin: 0 0 2px; font-size: 12.5px; }
.tph-tab .tph-tokens { margin: 0; padding: 0; background: transparent; border: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; line-height: 1.55;
    font-family: var(--font-mono, monospace); color: var(--body-text-color, inherit); }
.tph-tokens i { font-style: normal; background: color-mix(in srgb, currentColor 9%, transparent); }
.tph-tab mark.tph-trained { background: color-mix(in srgb, var(--tph-good) 26%, transparent); color: inherit; border-radius: 2px; }
.tph-tab b.tph-special { font-weight: 600; color: var(--tph-line); }
.tph-overlap-mark { border-left: 3px solid var(--tph-second); padding-left: 6px; }
.tph-return { color: var(--tph-muted); }
.tph-border { display: flex; align-items: center; gap: 10px; margin: 12px 0 8px !important; font-size: 12.5px; color: var(--tph-muted); }
.tph-border::before, .tph-border::after { content: ""; flex: 1; border-top: 1px dashed var(--tph-edge); }
.tph-border[data-border="hard cut"] { color: var(--tph-bad); font-weight: 600; }
.tph-border[data-border="hard cut"]::before, .tph-border[data-border="hard cut"]::after { border-color: var(--tph-bad); }
.tph-fill { display: flex; align-items: flex-end; gap: 3px; height: 36px; margin: 4px 0; }
.tph-fill i { flex: 1; max-width: 34px; background: var(--tph-line); border-radius: 2px 2px 0 0; }

.tph-chart { position: relative; display: grid; grid-template-columns: 52px 1fr; margin: 0 0 8px; }
.tph-chart figcaption { grid-column: 1 / -1; display: flex; justify-content: space-between; flex-wrap: wrap; gap: 4px 14px; margin-bottom: 6px; font-size: 13px; }
.tph-chart svg { grid-column: 2; width: 100%; height: 170px; overflow: visible; display: block; }
.tph-chart + .tph-chart svg, .tph-schedule .tph-chart svg, .tph-small-charts svg { height: 80px; }
.tph-small-charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 4px 18px; }
.tph-small-charts .tph-chart { margin: 0; min-width: 0; }
.tph-x span.tph-at-end { transform: translateX(-85%); }
.tph-band { stroke: none; opacity: .13; } .tph-legend [class*="tph-band-"]::before { height: 10px; opacity: .35; }
.tph-band-0 { fill: var(--tph-line); } .tph-band-1 { fill: var(--tph-second); } .tph-band-2 { fill: var(--tph-good); }
.tph-legend .tph-band-1::before { background: var(--tph-second); } .tph-legend .tph-band-2::before { background: var(--tph-good); }
.tph-switch { stroke: var(--tph-muted); stroke-width: 1; stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.tph-mark { stroke: var(--tph-good); stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.tph-legend .tph-mark::before { width: 3px; height: 11px; background: var(--tph-good); }
.tph-schedule { margin: 12px 0 8px; }
.tph-y { position: relative; grid-column: 1; }
.tph-y span { position: absolute; right: 8px; transform: translateY(-50%); font-size: 11px; color: var(--tph-muted); }
.tph-x { position: relative; grid-column: 2; height: 18px; }
.tph-x span { position: absolute; white-space: nowrap; transform: translateX(-50%); top: 3px; font-size: 11px; color: var(--tph-muted); }
.tph-axis { margin: 0; text-align: center; font-size: 11px; color: var(--tph-muted); }
.tph-grid { stroke: var(--tph-edge); stroke-width: 1; vector-effect: non-scaling-stroke; }
.tph-line { fill: none; vector-effect: non-scaling-stroke; stroke-width: 1.5; stroke-linejoin: round; }
.tph-dot { stroke-linecap: round; stroke-width: 6; }
path.tph-raw { stroke: var(--tph-line); opacity: .35; stroke-width: 1; }
path.tph-smooth { stroke: var(--tph-line); stroke-width: 2; }
path.tph-eval { stroke: var(--tph-second); }
path.tph-rate, path.tph-norm, path.tph-speed, path.tph-memory { stroke: var(--tph-line); }
path.tph-gain-context { stroke: var(--tph-line); } path.tph-gain-order { stroke: var(--tph-second); } path.tph-gain-distance { stroke: var(--tph-good); }
.tph-legend .tph-gain-order::before { background: var(--tph-second); } .tph-legend .tph-gain-distance::before { background: var(--tph-good); }
#tph-phases { margin-top: 10px; }
.tph-legend { display: flex; flex-wrap: wrap; gap: 2px 12px; font-size: 12px; color: var(--tph-muted); }
.tph-legend span::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; background: var(--tph-line); }
.tph-legend span:empty { display: none; }
.tph-legend .tph-raw::before { opacity: .35; }
.tph-legend .tph-eval::before { background: var(--tph-second); }
#tph-curve:not(:empty) { border: 1px solid var(--tph-edge); border-radius: 10px; padding: 12px 14px 8px; background: var(--tph-surface);
    color: var(--body-text-color, inherit); }

.tph-scroll { overflow-x: auto; }
.tph-tab .tph-list th { width: auto; padding-right: 8px; }
.tph-tab .tph-list thead th { font-weight: 600; }
.tph-tab .tph-list td { white-space: nowrap; font-variant-numeric: tabular-nums; }
.tph-color-0 { --tph-own: #3b82f6; } .tph-color-1 { --tph-own: #f59e0b; } .tph-color-2 { --tph-own: #16a34a; }
.tph-color-3 { --tph-own: #db2777; } .tph-color-4 { --tph-own: #7c3aed; } .tph-color-5 { --tph-own: #0891b2; }
.tph-compared path.tph-line { stroke: var(--tph-own); stroke-width: 2; }
.tph-compared .tph-legend span::before { background: var(--tph-own); }
.tph-tab .tph-list th[class*="tph-color"] { border-bottom: 3px solid var(--tph-own) !important; }
.tph-card.tph-warn { border-color: var(--tph-warn); border-left-width: 4px; margin-bottom: 10px; }
#tph-notices-box:not(:has(.tph-card)) { display: none !important; }
#tph-runs-note-box:not(:has(.tph-card)), #tph-queue-note-box:not(:has(.tph-card)), #tph-run-details-box:has(#tph-run-details:empty) { display: none !important; }
.tph-tab #tph-runs-order { max-width: 220px; align-self: flex-start; margin: 0 !important; }
#tph-queue-add { height: 42px; flex: none; font-size: 14px; }
.tph-queue-line { align-items: flex-end !important; gap: 10px 14px !important; }
.tph-queue-group .tph-said td { white-space: normal; padding-top: 0; }
.tph-tab tr:has(+ .tph-said) td { border-bottom: 0 !important; }
#tph-run-details { display: flex; flex-direction: column; gap: 14px; }

#tph-recheck, #tph-looked { display: none !important; }
.tph-tab .tph-field [data-testid="block-info"] + div { white-space: pre-line; }
#tph-product { font-size: 13px; color: var(--tph-muted); } #tph-product b { color: var(--body-text-color, inherit); }
#tph-product-box { grid-column: 1 / -1; }
.tph-copy-row { align-items: flex-end !important; gap: 12px !important; }
#tph-copy-order { width: auto !important; }
.tph-tab .tph-save-as button { align-self: flex-end; flex: none; width: 110px; height: 42px; font-size: 14px !important; }
#tph-presets .tph-buttons { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); align-items: center !important; }
#tph-plan-phases table { font-size: 12.5px; } #tph-plan-phases th { padding: 3px 8px 3px 0; }
#tph-preset-words, #tph-yaml-download { font-size: 13px; }
#tph-yaml-download { display: inline-block; padding: 8px 4px; text-decoration: underline; }
#tph-yaml textarea, #tph-command textarea { font-family: var(--font-mono, monospace); font-size: 12.5px; }
#tph-problems a { color: inherit; text-decoration: underline; }
.tph-suggestions { gap: 8px !important; padding: 12px 14px !important; }
.tph-suggestion { align-items: center !important; gap: 10px !important; flex-wrap: nowrap !important; }
.tph-suggestion > :first-child { flex: 1 1 auto !important; min-width: 0 !important; font-size: 13.5px; line-height: 1.45; }
.tph-suggestion button { flex: none !important; min-width: 84px !important; }
.tph-lengths { margin: 10px 0 8px; }
.tph-lengths figcaption { font-size: 13px; margin-bottom: 2px; }
.tph-lengths svg { width: 100%; height: 84px; display: block; border-bottom: 1px solid var(--tph-edge); }
.tph-lengths-x { display: flex; justify-content: space-between; position: relative; min-height: 15px; font-size: 11px; color: var(--tph-muted); }
.tph-cutoff-word { position: absolute; white-space: nowrap; color: var(--tph-bad); }
rect.tph-length { fill: var(--tph-line); } path.tph-cutoff { stroke: var(--tph-bad); stroke-width: 2; vector-effect: non-scaling-stroke; }
.tph-memory { margin-top: 12px; font-size: 13.5px; }
.tph-memory p { margin: 0 0 4px; }
.tph-parts { display: flex; height: 12px; border-radius: 99px; overflow: hidden; background: color-mix(in srgb, currentColor 14%, transparent); }
.tph-over .tph-parts { outline: 2px solid var(--tph-bad); }
.tph-parts i { background: var(--tph-own); }
.tph-memory ul { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 0 !important; padding: 0 !important; list-style: none !important; font-size: 12.5px; }
.tph-memory li::before { content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 5px; border-radius: 2px; background: var(--tph-own); }
.tph-part-0 { --tph-own: #3b82f6; } .tph-part-1 { --tph-own: #16a34a; } .tph-part-2 { --tph-own: #f59e0b; } .tph-part-3 { --tph-own: #7c3aed; }
.tph-part-4 { --tph-own: #db2777; }

#tph-jump { display: none; }
@media (max-width: 760px) {
    .tph-columns { flex-direction: column !important; }
    .tph-form, .tph-run { width: 100% !important; min-width: 0 !important; }
    .tph-run { position: static; max-height: none; overflow: visible; }
    #tph-jump { display: block; font-size: 14px; }
    .tph-group { padding: 12px !important; }
    .tph-grid { grid-template-columns: minmax(0, 1fr); }
    .tph-many { flex-wrap: wrap !important; }
    .tph-many > button { flex: 1 1 calc(50% - 10px) !important; }
    .tph-tab .tph-stacked thead { display: none; }
    .tph-tab .tph-stacked tr { display: grid; grid-template-columns: 1fr 1fr; gap: 0 12px; padding: 6px 0; border-bottom: 1px solid var(--tph-edge) !important; }
    .tph-tab .tph-stacked tr:has(+ .tph-said) { border-bottom: 0 !important; }
    .tph-tab .tph-stacked td { border-bottom: 0 !important; padding: 1px 0; white-space: normal; overflow-wrap: anywhere; }
    .tph-stacked td:first-child { grid-column: 1 / -1; } .tph-stacked td:empty { display: none; }
    .tph-stacked td:not(:first-child)[data-label]::before { content: attr(data-label) ": "; color: var(--tph-muted); }
}
"""


def custom_css() -> str:
    """The style sheet, in the form that the WebUI asks an extension for."""
    return CSS
