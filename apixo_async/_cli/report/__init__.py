"""What a bulk run leaves behind: `results.jsonl`, `report.json` and the sheet `index.html`."""
