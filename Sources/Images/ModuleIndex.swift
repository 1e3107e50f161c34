/// The output of `depmod`: the file of every module and the modules that must be loaded before it. Source:
/// modules.dep(5), modules.builtin in kernel Documentation/kbuild/kbuild.rst.
struct ModuleIndex: Sendable {
  /// Normalized name → path below /lib/modules/VERSION.
  private var paths: [String: String] = [:]
  private var dependencies: [String: [String]] = [:]
  private var builtIn: Set<String> = []

  /// - Parameters:
  ///   - dependencyList: content of modules.dep: `path: path path …` per line.
  ///   - builtInList: content of modules.builtin: a path per line.
  init(dependencyList: String, builtInList: String) {
    for line in dependencyList.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { continue }
      let path = String(parts[0])
      paths[Self.name(of: path)] = path
      dependencies[path] = parts[1].split(separator: " ").map(String.init)
    }
    for line in builtInList.split(separator: "\n") { builtIn.insert(Self.name(of: String(line))) }
  }

  var allPaths: [String] { paths.values.sorted() }

  /// Files of the named modules and of their dependencies, each once, dependencies first. Built-in modules are left
  /// out.
  func loadOrder(_ names: [String]) throws(ManifestError) -> [String] {
    var order: [String] = []
    var seen: Set<String> = []
    for name in names {
      let name = Self.normalize(name)
      if builtIn.contains(name) { continue }
      guard let path = paths[name] else { throw ManifestError("the kernel package has no module \(name)") }
      visit(path, &seen, &order)
    }
    return order
  }

  /// Files in the given directories or with the given names, and their dependencies. Names that the kernel lacks are
  /// left out.
  func selection(directories: [String], names: [String]) -> [String] {
    var order: [String] = []
    var seen: Set<String> = []
    for path in allPaths where directories.contains(where: { path.hasPrefix("\($0)/") }) { visit(path, &seen, &order) }
    for path in names.compactMap({ paths[Self.normalize($0)] }) { visit(path, &seen, &order) }
    return order
  }

  private func visit(_ path: String, _ seen: inout Set<String>, _ order: inout [String]) {
    guard seen.insert(path).inserted else { return }
    for dependency in dependencies[path] ?? [] { visit(dependency, &seen, &order) }
    order.append(path)
  }

  /// `kernel/drivers/net/virtio_net.ko.xz` → `virtio_net`.
  static func name(of path: String) -> String {
    let file = path.split(separator: "/").last.map(String.init) ?? path
    return normalize(file.split(separator: ".", maxSplits: 1).first.map(String.init) ?? file)
  }

  /// The kernel treats `-` and `_` in module names alike.
  private static func normalize(_ name: String) -> String {
    String(name.map { $0 == "-" ? "_" : $0 })
  }
}
