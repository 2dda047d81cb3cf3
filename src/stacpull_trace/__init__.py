"""What a pixel came from: scene traceability of Analysis-Ready PlanetScope, over Sentinel Hub's services."""
