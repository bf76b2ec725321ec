"""What a member graph takes and gives, and the words both sides use.

Training exports to this contract and serving relies on it; neither knows more of the other.
All arrays are row-major; V is the number of views of one study and is dynamic (at least 1).
"""

from __future__ import annotations

from typing import Final

GRADES: Final = ("S0", "S1", "S2", "S3")
"""Hepatic steatosis grades, in order (Kleiner/Brunt: below 5 %, 5-33 %, 34-66 %, above 66 % of hepatocytes)."""

VIEWS: Final = ("subcostal", "intercostal", "liver-kidney", "left-lobe")
"""The four liver views: subcostal with hepatic veins, right intercostal, right liver-kidney, left lobe with aorta."""

INPUT_VIEWS: Final = "views"
"""float32 [V, C, H, W], made by `inference.preprocess`; C, H and W stand in the bundle, C counts `CHANNELS`."""

CHANNELS: Final = ("contrast", "grey", "sector")
"""What the channels hold, of which a bundle takes the first C: grey values stretched to the sector's own contrast, grey
values as displayed (0 to 1), and 1 inside the sector; all zero outside it."""

OUTPUT_GRADE_LOGITS: Final = "grade_logits"
"""float32 [4], the study's grade before calibration."""

OUTPUT_FAT_FRACTION: Final = "fat_fraction"
"""float32 [1], the study's fat fraction in percent, before calibration."""

OUTPUT_VIEW_WEIGHTS: Final = "view_weights"
"""float32 [V], attention of the fusion over the views; sums to 1."""

OUTPUT_SALIENCY: Final = "saliency"
"""float32 [V, 4, h, w], Grad-CAM on the trunk's features of the study's evidence for each of `GRADES`, not negative,
not scaled: of the log-odds of S1, S2 or S3 or more, for S0 of those against steatosis."""

OUTPUT_VIEW_GRADE_LOGITS: Final = "view_grade_logits"
"""float32 [V, 4], each view scored alone."""

OUTPUT_VIEW_LOGITS: Final = "view_logits"
"""float32 [V, 4], which of `VIEWS` each view shows."""

OUTPUT_LIVER_LOGIT: Final = "liver_logit"
"""float32 [V], positive where the view looks like liver B-mode."""

OUTPUTS: Final = (
    OUTPUT_GRADE_LOGITS,
    OUTPUT_FAT_FRACTION,
    OUTPUT_VIEW_WEIGHTS,
    OUTPUT_SALIENCY,
    OUTPUT_VIEW_GRADE_LOGITS,
    OUTPUT_VIEW_LOGITS,
    OUTPUT_LIVER_LOGIT,
)
