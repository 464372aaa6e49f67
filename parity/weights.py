"""The seeded weights of the audit, under the name the audit uses; they are made where all inputs are made."""

from fixtures.weights import audited_detail_weights, seeded_identity_weights, seeded_weights

__all__ = ["audited_detail_weights", "seeded_identity_weights", "seeded_weights"]
