"""Watching the model: drift by scanner and site, a shadow bundle beside the live one, and readers' grades.

Nothing here touches a study on its way: what is watched is kept beside the score, and compared when somebody looks.
"""
