"""The learners of the methods, one file each, behind one small Protocol; ``metasiam.methods`` lists them."""
