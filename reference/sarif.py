"""Validates the SARIF of `real scan` against the schema of SARIF 2.1.0.

    real scan --format sarif PATH… > log.sarif
    python reference/sarif.py SCHEMA.json log.sarif

Needs jsonschema. The schema is `Schemata/sarif-schema-2.1.0.json` of oasis-tcs/sarif-spec; the crate `serde-sarif` carries a copy
as `src/schema.json`. Exit status 0: valid; 1: what is wrong, one line each.
"""

import json
import sys

import jsonschema


def main():
    schema_path, log_path = sys.argv[1:]
    with open(schema_path) as schema_file, open(log_path) as log_file:
        schema, log = json.load(schema_file), json.load(log_file)
    validator = jsonschema.validators.validator_for(schema)(schema)
    errors = sorted(validator.iter_errors(log), key=lambda error: list(map(str, error.absolute_path)))
    for error in errors:
        print("/".join(map(str, error.absolute_path)), error.message[:200])
    results = sum(len(run.get("results", [])) for run in log["runs"])
    print(f"{results} results, {len(errors)} violations of the schema")
    return 1 if errors else 0


sys.exit(main())
