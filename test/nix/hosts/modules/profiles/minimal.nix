# In place of nixpkgs' profiles of these names.
{ }
