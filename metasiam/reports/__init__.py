"""What a person looks at: tables, figures and one self-contained page, all made from the JSON dicts of a run."""
