// Disks
