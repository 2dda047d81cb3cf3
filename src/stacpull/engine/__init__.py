"""What puts the rooms together: producer → bounded queue → pool of workers → publisher."""
