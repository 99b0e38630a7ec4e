"""scikit-learn's MLP on the rows that Geartrain learns from, measured on those that it keeps for validation.

    python tables_sklearn.py FILE.csv TARGET [--seed 1337] [--validation 0.2] [--regression]
    python tables_sklearn.py --write DIR      the data sets of scikit-learn as CSV files

Columns of numbers are standardised, columns of words become columns of 0 and 1 (scikit-learn has no embeddings). Prints the
accuracy, or RMSE and R², of MLPClassifier or MLPRegressor with the settings of the library, and with 1000 iterations. The
target of a regression is standardised, as Geartrain does it. The split is that of crates/train/src/data/table/split.rs.
"""

import argparse
import csv
import json
import os
import warnings

import numpy as np


def philox4x32_10(counter, key):
    """Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def split(classes, share, seed):
    """Rows to learn from and rows for validation, each in the order of the table."""
    stream = int.from_bytes(b"spli", "big")

    def draw(row):
        words = philox4x32_10([row, 0, 0, stream], [seed & 0xFFFFFFFF, seed >> 32])
        return words[0] | words[1] << 32

    train, validation = [], []
    for c in sorted(set(classes)):
        rows = sorted((draw(row), row) for row, found in enumerate(classes) if found == c)
        kept = min(int(share * len(rows) + 0.5), len(rows) - 1)
        validation += [row for _, row in rows[:kept]]
        train += [row for _, row in rows[kept:]]
    return sorted(train), sorted(validation)


def table(path, target):
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    y = [row.pop(target) for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return columns, y


def features(columns, train):
    parts = []
    for cells in columns.values():
        try:
            x = np.array([float(cell) for cell in cells])
            mean, std = x[train].mean(), x[train].std()
            parts += [(x - mean) / std] if std > 0 else []
        except ValueError:
            parts += [np.array([float(cell == word) for cell in cells]) for word in sorted(set(cells))]
    return np.stack(parts, axis=1)


def write(folder):
    from sklearn import datasets

    os.makedirs(folder, exist_ok=True)
    for name in ["iris", "digits", "breast_cancer", "diabetes", "wine"]:
        data = getattr(datasets, f"load_{name}")()
        named = name in ("iris", "breast_cancer")
        y = [data.target_names[i] for i in data.target] if named else data.target
        with open(os.path.join(folder, f"{name}.csv"), "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(list(data.feature_names) + ["target"])
            writer.writerows([*map(repr, map(float, x)), t] for x, t in zip(data.data, y))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--validation", type=float, default=0.2)
    parser.add_argument("--regression", action="store_true")
    parser.add_argument("--write")
    args = parser.parse_args()
    if args.write:
        return write(args.write)
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore")
    columns, y = table(args.file, args.target)
    train, kept = split([0] * len(y) if args.regression else y, args.validation, args.seed)
    x = features(columns, train)
    for iterations in [200, 1000]:
        kind = MLPRegressor if args.regression else MLPClassifier
        model = kind(random_state=args.seed, max_iter=iterations)
        if args.regression:
            t = np.array([float(v) for v in y])
            mean, std = t[train].mean(), t[train].std()
            model.fit(x[train], (t[train] - mean) / std)
            answers = model.predict(x[kept]) * std + mean
            errors, spread = ((t[kept] - answers) ** 2).sum(), ((t[kept] - t[kept].mean()) ** 2).sum()
            scores = {"rmse": (errors / len(kept)) ** 0.5, "r2": 1 - errors / spread}
        else:
            t = np.array(y)
            model.fit(x[train], t[train])
            scores = {"accuracy": float((model.predict(x[kept]) == t[kept]).mean())}
        print(json.dumps({"max_iter": iterations, "rows": len(kept), **scores}))


if __name__ == "__main__":
    main()
