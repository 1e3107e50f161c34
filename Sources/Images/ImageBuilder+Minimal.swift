import Glibc
import LinuxSystem
import Model
import SystemPackage

extension ImageBuilder {
  /// Busybox applets that are not installed: the guest agent is process 1, and sh and busybox are installed separately.
  private static let omittedApplets: Set<String> = ["init", "linuxrc", "sh", "busybox"]
  private static let certificateFolder = "/usr/share/ca-certificates"
  private static let maximumCertificates = 1_000

  func makeMinimal() async throws -> TemplateImage {
    report("minimal", "laying out busybox", 0.1)
    return try await withWorkspace { workspace in
      let tree = RootTree(root: workspace.appending("root"))
      try Directories.create(tree.root)
      try await installBusybox(in: tree)
      try tree.ensureAccounts(addingUser: true, shell: "/bin/sh")
      try writeMinimalSystem(to: tree)
      let defaults = TemplateDefaults(user: "root", workdir: "/root")
      return try await assemble(tree, name: .minimal, team: .platform, defaults: defaults, recipe: Self.minimalRecipe)
    }
  }

  private func installBusybox(in tree: RootTree) async throws {
    guard let busybox = Tool.find("busybox") else { throw ToolError("busybox", .notInstalled) }
    for directory in [
      "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/var/log", "/var/tmp", "/mnt", "/opt", "/lib",
    ] {
      try tree.makeDirectory(directory)
    }
    try await install(FilePath(busybox), in: tree, at: "/bin/busybox")
    try tree.link("/bin/sh", to: "busybox")
    let list = try await Tool.run(busybox, ["--list-full"], deadline: .seconds(10)).checked().outputText
    for applet in list.split(separator: "\n").map(String.init) {
      let name = applet.split(separator: "/").last.map(String.init) ?? ""
      let isSafe = !name.isEmpty && !applet.contains("..") && !Self.omittedApplets.contains(name)
      if isSafe { try tree.link("/\(applet)", to: "/bin/busybox") }
    }
  }

  private func writeMinimalSystem(to tree: RootTree) throws(SystemError) {
    try tree.write("passwd: files\ngroup: files\nhosts: files dns\n", to: "/etc/nsswitch.conf")
    try tree.write("/bin/sh\n", to: "/etc/shells")
    try tree.write(
      "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport LANG=C.UTF-8\n",
      to: "/etc/profile")
    try tree.write(
      "ID=martlet-minimal\nNAME=\"Martlet minimal\"\nPRETTY_NAME=\"Martlet minimal (busybox)\"\n", to: "/etc/os-release"
    )
    let bundle = Self.publicCertificates()
    if !bundle.isEmpty { try tree.write(bundle, to: "/etc/ssl/certs/ca-certificates.crt") }
  }

  /// The public certificate authorities of Debian's ca-certificates package as one PEM bundle. The host's own bundle is
  /// not used: it may contain authorities that the operator trusts on this host only.
  private static func publicCertificates() -> [UInt8] {
    let folders = ((try? Directories.names(in: FilePath(certificateFolder))) ?? []).sorted()
    var bundle: [UInt8] = []
    for folder in folders {
      let names = ((try? Directories.names(in: FilePath("\(certificateFolder)/\(folder)"))) ?? []).sorted()
      for name in names.prefix(maximumCertificates) where name.hasSuffix(".crt") {
        bundle += (try? SmallFile.read("\(certificateFolder)/\(folder)/\(name)")) ?? []
        if bundle.last.map({ $0 != UInt8(ascii: "\n") }) == true { bundle.append(UInt8(ascii: "\n")) }
      }
    }
    return bundle
  }
}
