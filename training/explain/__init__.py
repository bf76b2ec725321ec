"""What a model looks at and what its answers rest on, and whether these explanations can be believed.

`shapley`, `views` and `clinical` share an answer out among its inputs; `sanity` and `overlap` put the Grad-CAM maps to
the test; `panels` draws both for the evaluation report.
"""
