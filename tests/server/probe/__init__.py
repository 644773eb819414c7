"""The probe of adapters on their base."""
