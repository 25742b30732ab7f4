"""The training recipe of the embedded model: corpora, pictures, captions, splits, training, export, evaluation."""
