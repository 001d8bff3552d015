"""Who answers a protocol's requests. A backend knows no protocol: it gets requests and yields answers."""
