"""The fast path: C-STORE in an established association, without pynetdicom's buffers, objects and threads.

The seam is `FastSocket`, which stands where pynetdicom expects its `AssociationSocket`. In state Sta6 (PS3.8 Table
9-10) it reads the stream itself, writes what belongs to a plain C-STORE to disk as it comes and answers it. Everything
else goes to pynetdicom as if nothing had been: any other PDU through `recv`, any other message through its DIMSE
provider.
`relied` says what it relies on in pynetdicom; where that does not stand, the stock path serves.
"""
