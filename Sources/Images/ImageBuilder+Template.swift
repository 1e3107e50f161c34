import Glibc
import LinuxSystem
import Model
import SystemPackage

extension ImageBuilder {
  /// Larger trees are refused before an image is made of them.
  static let maximumTreeBytes: Int64 = 256 << 30

  func makeTemplate(
    name: SafeName, team: TeamID, source: FilePath, envs: [String: String]
  ) async throws -> TemplateImage {
    try await withWorkspace { workspace in
      let tree = RootTree(root: workspace.appending("root"))
      try Directories.create(tree.root)
      report(name.value, "copying the tree", 0.05)
      try await importTree(source, into: tree)
      guard try tree.hasExecutables() else {
        throw MartletError(
          .invalidRequest,
          "the source of template \(name) is not a root file system: it has no /bin/sh and no executable in "
            + "/bin, /usr/bin or /usr/local/bin"
        )
      }
      try tree.ensureAccounts(addingUser: false, shell: "/bin/sh")
      let account = try tree.defaultAccount()
      let defaults = TemplateDefaults(user: account.user, workdir: account.home, envs: envs)
      return try await assemble(tree, name: name, team: team, defaults: defaults, recipe: nil)
    }
  }

  private func importTree(_ source: FilePath, into tree: RootTree) async throws {
    var status = stat()
    guard stat(source.string, &status) == 0 else {
      throw MartletError(
        .invalidRequest, "the template's source does not exist or cannot be read",
        cause: SystemError.current("stat", subject: source.string))
    }
    switch status.st_mode & S_IFMT {
    case S_IFDIR: try await copy(source, into: tree)
    case S_IFREG: try await unpackSource(source, into: tree)
    default: throw MartletError(.invalidRequest, "the template's source must be a directory or a tar archive")
    }
    try await dropSpecialFiles(tree)
    let content = try await FileSystemImage.measure(tree, deadline: Self.localDeadline)
    guard content.blocks * FileSystemImage.blockBytes <= Self.maximumTreeBytes else {
      throw MartletError(.tooLarge, "the template's tree is larger than \(Self.maximumTreeBytes >> 30) GiB")
    }
  }

  /// Copies the source, which is only read. Other file systems mounted below it are left out.
  private func copy(_ source: FilePath, into tree: RootTree) async throws {
    try await Tool.run(
      "cp", ["-a", "--one-file-system", "--reflink=auto", "--", "\(source.string)/.", tree.root.string],
      deadline: Self.localDeadline
    ).checked()
    try SystemError.check("chmod", tree.root.string) { chmod(tree.root.string, 0o755) }
  }

  private func unpackSource(_ archive: FilePath, into tree: RootTree) async throws {
    do {
      try await unpack(archive, into: tree)
    } catch let error as ToolError {
      guard case .failed = error.reason else { throw error }
      throw MartletError(
        .invalidRequest,
        "the template's archive cannot be unpacked; it must be a tar of a root file system, plain or with gzip, xz "
          + "or zstd",
        cause: error)
    }
  }

  /// Unpacks an untrusted archive into an empty tree.
  ///
  /// GNU tar without `-P` makes members with a leading slash relative, refuses members with `..`, and creates links
  /// that lead out of the tree only after everything else, so nothing is written through them. Source: GNU tar manual,
  /// "Security rules of thumb" and "Absolute File Names".
  func unpack(_ archive: FilePath, into tree: RootTree) async throws {
    let arguments = [
      "--extract", "--file", archive.string, "--force-local", "--directory", tree.root.string, "--numeric-owner",
      "--same-owner",
      "--preserve-permissions",
      "--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--exclude=./dev/*", "--exclude=dev/*",
      "--anchored",
      "--warning=no-timestamp",
      "--auto-compress",
    ]
    try await Tool.run("tar", arguments, deadline: Self.localDeadline).checked()
    try SystemError.check("chmod", tree.root.string) { chmod(tree.root.string, 0o755) }
    try SystemError.check("chown", tree.root.string) { lchown(tree.root.string, 0, 0) }
  }

  /// Removes devices, which the guest gets from devtmpfs, and sockets, which work only while a process listens on them.
  private func dropSpecialFiles(_ tree: RootTree) async throws {
    let arguments = [
      tree.root.string, "-xdev", "(", "-type", "b", "-o", "-type", "c", "-o", "-type", "s", ")", "-delete",
    ]
    try await Tool.run("find", arguments, deadline: Self.localDeadline).checked()
  }
}
