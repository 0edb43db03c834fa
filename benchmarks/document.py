"""What every measured endpoint answers: some 500 bytes, as one city of a search would be."""

DOCUMENT = {
    "results": [
        {
            "geonameid": 2267057, "name": "Lisbon", "latitude": 38.71667, "longitude": -9.13333,
            "countrycode": "PT", "population": 517802, "timezone": "Europe/Lisbon", "admin1code": "14",
            "alternatenames": ["LIS", "Lisboa", "Lisbona", "Lisbonne", "Lissabon", "Olisipo", "Lizbona"],
            "score": 0.981,
        },
        {
            "geonameid": 3461370, "name": "Lisbon Falls", "latitude": 43.99619, "longitude": -70.06061,
            "countrycode": "US", "population": 4100, "timezone": "America/New_York", "admin1code": "ME",
            "alternatenames": [], "score": 0.774,
        },
    ]
}  # fmt: skip
