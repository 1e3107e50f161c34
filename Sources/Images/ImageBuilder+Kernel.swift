import Foundation
import Glibc
import LinuxSystem
import Model
import SystemPackage

extension ImageBuilder {
  /// A package that always depends on the release's current cloud kernel. Measured under emulation, this kernel boots
  /// to the agent 0.4 s faster than the newer series that the archive also carries.
  private static let kernelMetaPackage = "linux-image-cloud-amd64"
  /// Module directories that go into /lib/modules of every image: modules that containers and tunnels inside a guest
  /// need.
  private static let guestModuleDirectories = [
    "kernel/net/netfilter", "kernel/net/ipv4/netfilter", "kernel/net/ipv6/netfilter", "kernel/net/bridge",
    "kernel/fs/overlayfs",
    "kernel/fs/fuse", "kernel/fs/squashfs", "kernel/drivers/net/wireguard",
  ]
  private static let guestModules = [
    "loop", "tun", "veth", "dummy", "macvlan", "ipvlan", "vxlan", "dm-mod", "isofs", "nls_utf8", "tcp_bbr", "sch_fq",
    "binfmt_misc",
    "virtio_console",
  ]

  func makeKernel() async throws {
    report("kernel", "finding the newest package", 0.02)
    try await withWorkspace { workspace in
      let (name, packageVersion) = try await newestKernelPackage()
      report("kernel", "downloading \(name)", 0.1)
      let unpacked = try await fetch(name, into: workspace)
      let version = String(name.dropFirst("linux-image-".count))
      guard KernelManifest.isSafeVersion(version) else {
        throw ManifestError("the kernel package has an unexpected name: \(name)")
      }
      try Directories.create(store.building, mode: 0o700)
      let staged = store.building.appending("kernel-\(UUID().uuidString.lowercased())")
      try Directories.create(staged, mode: 0o700)
      // After publishing, the staging directory is no longer at this path.
      defer { try? Directories.removeTree(staged) }
      report("kernel", "extracting the kernel", 0.5)
      try await extractKernel(
        unpacked.appending("boot/vmlinuz-\(version)"), to: staged.appending("vmlinux"), scratch: workspace)
      report("kernel", "collecting modules", 0.6)
      try await collectModules(unpacked, version: version, staged: staged, scratch: workspace)
      let manifest = KernelManifest(
        version: version, package: packageVersion, recipe: Self.kernelRecipe,
        vmlinuxDigest: try await FileDigest.sha256(of: staged.appending("vmlinux")),
        initramfsDigest: try await FileDigest.sha256(of: staged.appending("initramfs")))
      try await BlockingPool.shared.run { () throws(any Error) in try store.publishKernel(staged, manifest: manifest) }
      report("kernel", "ready", 1)
    }
  }

  /// Name and version of the package that the meta package depends on. Refreshes apt's package lists once if they lack
  /// it.
  private func newestKernelPackage() async throws -> (name: String, version: String) {
    if let found = try await dependency() { return found }
    report("kernel", "refreshing package lists", 0.05)
    try await Tool.run("apt-get", ["-q", "update"], deadline: Self.downloadDeadline).checked()
    if let found = try await dependency() { return found }
    throw MartletError(
      .internalError, "the host's package sources have no \(Self.kernelMetaPackage); add Debian's main archive to them")
  }

  private func dependency() async throws -> (name: String, version: String)? {
    let text = try await Tool.run("apt-cache", ["depends", "--important", Self.kernelMetaPackage]).outputText
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count == 2, words[0] == "Depends:", words[1].hasPrefix("linux-image-"),
        words[1].hasSuffix("-cloud-amd64")
      else {
        continue
      }
      let show = try await Tool.run("apt-cache", ["show", "--no-all-versions", String(words[1])]).outputText
      let version = show.split(separator: "\n").first { $0.hasPrefix("Version: ") }?.dropFirst(9)
      return (String(words[1]), version.map(String.init) ?? "unknown")
    }
    return nil
  }

  /// Downloads a package and unpacks it without installing it. Returns the unpacked tree.
  private func fetch(_ package: String, into workspace: FilePath) async throws -> FilePath {
    let directory = workspace.appending("download-\(package)")
    try Directories.create(directory)
    // apt checks the package against its signed lists. Only the download itself runs as root, into a private directory.
    try await Tool.run(
      "apt-get", ["-q", "-o", "APT::Sandbox::User=root", "download", package], directory: directory.string,
      deadline: Self.downloadDeadline
    ).checked()
    guard let file = try Directories.names(in: directory).first(where: { $0.hasSuffix(".deb") }) else {
      throw ManifestError("apt-get downloaded no package")
    }
    let unpacked = workspace.appending("package-\(package)")
    try await Tool.run(
      "dpkg-deb", ["-x", directory.appending(file).string, unpacked.string], deadline: Self.localDeadline
    ).checked()
    return unpacked
  }

  /// Path of the host's depmod, or of one from the package kmod when the host has none. Busybox has a depmod too, but
  /// kmod's modprobe, which most guests use, cannot read its output.
  private func findDepmod(_ workspace: FilePath) async throws -> String {
    if let installed = Tool.find("depmod") { return installed }
    let unpacked = try await fetch("kmod", into: workspace)
    let program = ["bin/kmod", "usr/bin/kmod"].map { unpacked.appending($0).string }.first { Tool.find($0) != nil }
    guard let program else { throw ToolError("depmod", .notInstalled) }
    // kmod acts as the tool whose name it is called by.
    let link = workspace.appending("depmod").string
    try SystemError.check("symlink", link) { symlink(program, link) }
    return link
  }

  /// Extracts the ELF kernel from a bzImage. QEMU boots it directly through its PVH entry, so the guest does not spend
  /// time on decompression.
  private func extractKernel(_ bzImage: FilePath, to vmlinux: FilePath, scratch: FilePath) async throws {
    let compressed = scratch.appending("payload")
    let image = try await BlockingPool.shared.run { () throws(any Error) -> KernelImage in
      let file = try Data(contentsOf: URL(fileURLWithPath: bzImage.string), options: .alwaysMapped)
      guard file.count <= KernelImage.maximumBytes else { throw ManifestError("the kernel image is too large") }
      let bytes = Array(file)
      let image = try KernelImage(parsing: bytes)
      try Data(bytes[image.payload]).write(to: URL(fileURLWithPath: compressed.string))
      return image
    }
    try await Decompressor(image.compression).run(from: compressed, to: vmlinux, deadline: Self.localDeadline)
    var status = stat()
    try SystemError.check("stat", vmlinux.string) { stat(vmlinux.string, &status) }
    guard Int(status.st_size) == image.uncompressedBytes else {
      throw ManifestError("the kernel's length differs from the length in its header")
    }
    try SystemError.check("chmod", vmlinux.string) { chmod(vmlinux.string, 0o644) }
  }

  private func collectModules(_ unpacked: FilePath, version: String, staged: FilePath, scratch: FilePath) async throws {
    let source = unpacked.appending("lib/modules/\(version)")
    try await decompressModules(source)
    let depmod = try await findDepmod(scratch)
    let index = try await indexModules(unpacked, version: version, depmod: depmod)
    let boot = try index.loadOrder(Initramfs.modules)
    guard let busybox = Tool.find("busybox") else { throw ToolError("busybox", .notInstalled) }
    let modules = try boot.map { (ModuleIndex.name(of: $0), try SmallFile.read(source.appending($0).string)) }
    let archive = Initramfs.archive(
      busybox: try SmallFile.read(busybox), modules: modules, agentPath: GuestContract.agentPath)
    let initramfs = staged.appending("initramfs")
    try Data(archive).write(to: URL(fileURLWithPath: initramfs.string))
    try await Tool.run("gzip", ["-9", "-n", initramfs.string], deadline: Self.localDeadline).checked()
    try SystemError.check("rename", initramfs.string) { rename(initramfs.string + ".gz", initramfs.string) }
    try await packModules(index, from: source, version: version, staged: staged, scratch: scratch, depmod: depmod)
  }

  /// Packs the modules for images, with an index of their own, into one archive.
  private func packModules(
    _ index: ModuleIndex, from source: FilePath, version: String, staged: FilePath, scratch: FilePath, depmod: String
  ) async throws {
    let subset = scratch.appending("subset")
    let target = subset.appending("lib/modules/\(version)")
    for path in index.selection(directories: Self.guestModuleDirectories, names: Self.guestModules) {
      let place = target.appending(path)
      try Directories.create(place.removingLastComponent())
      try SystemError.check("rename", place.string) { rename(source.appending(path).string, place.string) }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"]
    where Tool.isReadable(source.appending(list).string) {
      try SystemError.check("rename", list) { rename(source.appending(list).string, target.appending(list).string) }
    }
    _ = try await indexModules(subset, version: version, depmod: depmod)
    let arguments = [
      "--create", "--file", staged.appending("modules.tar").string, "--sort=name", "--owner=0", "--group=0",
      "--numeric-owner",
      "--directory", subset.appending("lib/modules").string, version,
    ]
    try await Tool.run("tar", arguments, deadline: Self.localDeadline).checked()
  }

  private func decompressModules(_ directory: FilePath) async throws {
    for (pattern, tool) in [("*.ko.xz", "xz"), ("*.ko.zst", "zstd"), ("*.ko.gz", "gzip")] {
      let arguments = [directory.string, "-name", pattern, "-exec", tool, "-d", "-q", "-f", "{}", "+"]
      try await Tool.run("find", arguments, deadline: Self.localDeadline).checked()
    }
  }

  private func indexModules(_ root: FilePath, version: String, depmod: String) async throws -> ModuleIndex {
    try await Tool.run(depmod, ["-b", root.string, version], deadline: Self.localDeadline).checked()
    let directory = root.appending("lib/modules/\(version)")
    return ModuleIndex(
      dependencyList: try SmallFile.readText(directory.appending("modules.dep").string),
      builtInList: try SmallFile.readText(directory.appending("modules.builtin").string))
  }
}
