import Glibc
import LinuxSystem
import Model
import SystemPackage

extension ImageBuilder {
  static let baseRelease = "bookworm"
  /// Incremented when the package list or mmdebstrap's options change; the cached tree is then downloaded again.
  private static let baseTreeRevision = 1
  /// Packages on top of Debian's minbase: those of E2B's base template, and those that interactive users expect.
  static let basePackages = [
    "bash", "ca-certificates", "curl", "git", "iproute2", "jq", "kmod", "less", "nano", "ncurses-term",
    "netcat-openbsd",
    "openssh-client", "openssh-server", "procps", "python-is-python3", "python3", "python3-pip", "python3-venv", "sudo",
    "unzip",
    "xz-utils", "zip", "zstd",
  ]
  /// Files of packages that sandboxes do not need. Copyright files stay, because licences require them.
  private static let excludedPaths = [
    "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*",
  ]
  private static let keptPaths = ["/usr/share/doc/*/copyright"]

  func makeBase() async throws -> TemplateImage {
    let archive = store.cache.appending("base-\(Self.baseTreeRevision).tar.zst")
    if !Tool.isReadable(archive.string) { try await downloadBase(to: archive) }
    return try await withWorkspace { workspace in
      let tree = RootTree(root: workspace.appending("root"))
      report("base", "unpacking the prepared tree", 0.6)
      try Directories.create(tree.root)
      try await unpack(archive, into: tree)
      try configureBase(tree)
      let defaults = TemplateDefaults(
        user: RootTree.userName, workdir: "/home/\(RootTree.userName)", envs: ["LANG": "C.UTF-8"])
      return try await assemble(tree, name: .base, team: .platform, defaults: defaults, recipe: Self.baseRecipe)
    }
  }

  /// Runs mmdebstrap, which downloads and configures the packages from the archives that the host's own apt uses.
  private func downloadBase(to archive: FilePath) async throws {
    report("base", "downloading packages", 0.02)
    try Directories.create(store.cache)
    let partial = archive.removingLastComponent().appending("new-\(Self.baseTreeRevision).tar.zst")
    var arguments = [
      "--mode=root", "--variant=minbase", "--format=tar", "--include=\(Self.basePackages.joined(separator: ","))",
    ]
    arguments += ["--aptopt=APT::Install-Recommends \"false\""]
    arguments +=
      Self.excludedPaths.map { "--dpkgopt=path-exclude=\($0)" } + Self.keptPaths.map { "--dpkgopt=path-include=\($0)" }
    arguments += [Self.baseRelease, partial.string, "-"]
    let ofHost = AptSources.ofHost(release: Self.baseRelease)
    let sources =
      ofHost.isEmpty ? AptSources.debianDefaults(release: Self.baseRelease) : ofHost.joined(separator: "\n") + "\n"
    let environment = [
      "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": "/var/tmp", "HOME": "/root",
    ]
    let progress = progress
    try await Tool.run(
      "mmdebstrap", arguments, environment: environment, input: sources, deadline: Self.downloadDeadline,
      onLine: { line in progress(Self.downloadProgress(line)) }
    ).checked()
    try await BlockingPool.shared.run { () throws(SystemError) in try ImageStore.synchronize(partial) }
    try SystemError.check("rename", archive.string) { rename(partial.string, archive.string) }
    try SmallFile.synchronizeDirectory(store.cache)
  }

  private static func downloadProgress(_ line: String) -> BuildProgress {
    let stages: [(marker: String, step: String, fraction: Double)] = [
      ("I: downloading packages", "downloading packages", 0.05), ("I: extracting", "unpacking packages", 0.15),
      ("I: installing essential", "configuring essential packages", 0.2),
      ("I: installing remaining", "configuring packages", 0.3),
      ("I: cleaning", "cleaning up", 0.5), ("I: creating tarball", "saving the prepared tree", 0.53),
    ]
    let stage = stages.first { line.hasPrefix($0.marker) }
    return BuildProgress(
      subject: "base", step: stage?.step ?? "installing packages", fraction: stage?.fraction ?? 0.1, detail: line)
  }

  /// Removes traces of this host and of the build, and configures what tenants expect.
  private func configureBase(_ tree: RootTree) throws(SystemError) {
    for directory in ["/var/lib/apt/lists", "/var/cache/apt", "/var/log", "/etc/apt/sources.list.d"] {
      try tree.empty(directory)
    }
    for directory in ["/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial"] {
      try tree.makeDirectory(directory)
    }
    for file in ["/etc/apt/apt.conf.d/99mmdebstrap", "/etc/apt/sources.list", "/var/cache/ldconfig/aux-cache"] {
      try tree.remove(file)
    }
    // SSH host keys are removed: each sandbox that starts an SSH server generates its own.
    let keys = try Directories.names(in: try tree.resolve("/etc/ssh")).filter { $0.hasPrefix("ssh_host_") }
    for key in keys { try tree.remove("/etc/ssh/\(key)") }
    try tree.write(AptSources.debianDefaults(release: Self.baseRelease), to: "/etc/apt/sources.list.d/debian.sources")
    try tree.write("APT::Install-Recommends \"false\";\n", to: "/etc/apt/apt.conf.d/90martlet")
    try tree.write("LANG=C.UTF-8\n", to: "/etc/default/locale")
    try tree.ensureAccounts(addingUser: true, shell: "/bin/bash")
    try tree.write(
      "\(RootTree.userName) ALL=(ALL:ALL) NOPASSWD: ALL\n", to: "/etc/sudoers.d/90-user", permissions: 0o440)
    for file in [".bashrc", ".profile", ".bash_logout"] {
      guard let content = try tree.readText("/etc/skel/\(file)") else { continue }
      try tree.write(content, to: "/home/\(RootTree.userName)/\(file)", owner: RootTree.userID)
    }
  }
}
