"""What methods are made of: the contract of a method, bottlenecks, gates, norms, Kronecker products, hypernetworks."""
