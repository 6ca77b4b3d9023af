"""What a browser sees of the house: the captured mails of the local stack."""
