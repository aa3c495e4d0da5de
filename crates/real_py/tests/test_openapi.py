"""What `/openapi.json` says holds: it is valid OpenAPI 3.1, and its examples get answers of the kinds that it describes. Where the two
validators are not installed (`openapi-spec-validator`, which brings `jsonschema`) it is skipped, by name."""

import json
import sys
import unittest
import urllib.request

from test_doors import Server

try:
    import jsonschema
    import openapi_spec_validator
except ImportError:
    openapi_spec_validator = None


@unittest.skipIf(openapi_spec_validator is None, "no openapi-spec-validator")
class OpenApi(unittest.TestCase):
    def check(self, document, schema, value):
        """A schema may refer to others by their place in the document."""
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)

    def test_the_document_is_valid_and_its_examples_are_answered_as_it_says(self):
        with Server() as server:
            with urllib.request.urlopen(server.url + "/openapi.json", timeout=60) as response:
                document = json.load(response)
            self.assertTrue(document["openapi"].startswith("3.1."))
            openapi_spec_validator.validate(document)
            for path, methods in document["paths"].items():
                (method, operation), *more = methods.items()
                self.assertEqual(more, [])
                with self.subTest(path):
                    answer = self.ask(server, document, path, operation) if method == "post" else self.get(server, path)
                    content = operation["responses"]["200"]["content"]
                    if "application/json" in content:
                        self.check(document, content["application/json"]["schema"], json.loads(answer))
                    else:
                        self.assertEqual(list(content), ["text/plain"])
                        self.assertIn(b"# TYPE ", answer)

    def ask(self, server, document, path, operation):
        body = operation["requestBody"]["content"]["application/json"]
        self.check(document, body["schema"], body["example"])
        self.assert_refuses(document, body["schema"])
        return server.post(path, body["example"])

    def assert_refuses(self, document, schema):
        """A schema that anything fits would say nothing."""
        with self.assertRaises(jsonschema.ValidationError):
            self.check(document, schema, ["no object"])

    def get(self, server, path):
        with urllib.request.urlopen(server.url + path, timeout=60) as response:
            return response.read()


if openapi_spec_validator is None:
    print("skipped: the OpenAPI document: there is no openapi-spec-validator", file=sys.stderr)

if __name__ == "__main__":
    unittest.main()
