/// The first user space of a guest: loads the virtio modules, mounts the root file system and executes the guest agent.
enum Initramfs {
  /// Loaded in dependency order; modules that the kernel has built in are left out.
  static let modules = ["virtio_mmio", "virtio_blk", "virtio_net", "virtio-rng", "virtio_console", "virtio_pci"]

  /// An uncompressed newc archive.
  ///
  /// - Parameters:
  ///   - busybox: a static busybox executable.
  ///   - modules: decompressed module files in load order.
  ///   - agentPath: path of the guest agent in the root file system, executed as process 1.
  static func archive(busybox: [UInt8], modules: [(name: String, content: [UInt8])], agentPath: String) -> [UInt8] {
    var archive = CPIOArchive()
    for directory in ["bin", "dev", "lib", "root"] { archive.addDirectory(directory) }
    // The kernel opens it for the standard streams of /init, before devtmpfs is mounted.
    archive.addCharacterDevice("dev/console", major: 5, minor: 1, permissions: 0o600)
    archive.addFile("bin/busybox", content: busybox, permissions: 0o755)
    for module in modules { archive.addFile("lib/\(module.name).ko", content: module.content, permissions: 0o644) }
    archive.addFile(
      "init", content: Array(script(modules: modules.map(\.name), agentPath: agentPath).utf8), permissions: 0o755)
    return archive.finish()
  }

  /// The script uses absolute paths and no loops over globs: under emulation every process start costs time.
  static func script(modules: [String], agentPath: String) -> String {
    let loads = modules.map { "$B insmod /lib/\($0).ko" }.joined(separator: "\n")
    return """
      #!/bin/busybox sh
      B=/bin/busybox
      $B mount -t devtmpfs -o mode=755 dev /dev
      \(loads)
      n=0
      while [ ! -b /dev/vda ]; do
        n=$((n+1))
        [ $n -gt 1000 ] && echo "martlet: no root disk appeared" && exit 1
        $B usleep 5000
      done
      $B mount -t ext4 -o rw,noatime /dev/vda /root || {
        echo "martlet: the root file system cannot be mounted"
        exit 1
      }
      $B mount -o move /dev /root/dev || { echo "martlet: the image has no /dev"; exit 1; }
      # The agent's runtime reads /proc/self/exe at start, before code of the agent could mount /proc.
      $B mount -t proc -o nosuid,nodev,noexec proc /root/proc || { echo "martlet: the image has no /proc"; exit 1; }
      exec $B switch_root /root \(agentPath)

      """
  }
}
