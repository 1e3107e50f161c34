package struct Cgroup: Sendable {}
