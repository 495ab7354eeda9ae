// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The control groups around a process: the directories whose limits apply to it, innermost first.
///
/// Pure: made from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`. Both are needed: the first gives paths as
/// seen from the root of the hierarchy, the second says which part of the hierarchy is mounted where. In a container
/// without a cgroup namespace the path starts with the container's own group, which is what is mounted.
package struct CgroupHierarchy: Equatable {
    /// The layout of the files in a directory.
    package enum Version: Equatable { case v1, v2 }

    /// A directory to look for limits in.
    package struct Directory: Equatable {
        package let version: Version
        package let path: String
    }

    /// The directories, innermost first within each hierarchy.
    package let directories: [Directory]

    /// Finds the directories from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    package init(cgroup: String, mountinfo: String) {
        let memberships = cgroup.split(separator: "\n").compactMap(Membership.init)
        let mounts = mountinfo.split(separator: "\n").compactMap(Mount.init)
        var found: [Directory] = []
        for membership in memberships {
            guard let version = membership.version else { continue }
            // The last mount of a hierarchy hides earlier ones on the same place; any of them shows the same groups.
            let candidates = mounts.filter { $0.version == version }
            let mount = candidates.first { membership.path.isInside($0.root) } ?? candidates.first
            guard let mount else { continue }
            for path in Self.ascent(of: membership.path, in: mount) {
                found.append(Directory(version: version, path: path))
            }
        }
        directories = found
    }

    /// The directories from the group up to the mount point, innermost first.
    private static func ascent(of group: String, in mount: Mount) -> [String] {
        // A group outside the mounted part (its path starts with "/.." in a namespace): the mount point is all we see.
        var names: [Substring] = []
        if group.isInside(mount.root) {
            names = group.dropFirst(mount.root == "/" ? 0 : mount.root.count).split(separator: "/")
            if names.contains("..") { names = [] }
        }
        var paths = [mount.point]
        for name in names { paths.append(paths[paths.count - 1].appending(path: name)) }
        return paths.reversed()
    }
}

/// A line of `/proc/self/cgroup`: `4:cpu,cpuacct:/some/group`.
private struct Membership {
    /// `nil` for a v1 hierarchy that does not limit CPU time.
    let version: CgroupHierarchy.Version?
    let path: String

    init?(_ line: Substring) {
        let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
        guard fields.count == 3 else { return nil }
        if fields[0] == "0", fields[1].isEmpty {
            version = .v2
        } else {
            version = fields[1].split(separator: ",").contains("cpu") ? .v1 : nil
        }
        path = String(fields[2])
    }
}

/// A line of `/proc/self/mountinfo` that mounts a hierarchy with CPU limits:
/// `32 31 0:29 /root /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu`.
private struct Mount {
    let version: CgroupHierarchy.Version
    let root: String
    let point: String

    init?(_ line: Substring) {
        let fields = line.split(separator: " ")
        guard fields.count > 6, let dash = fields.dropFirst(6).firstIndex(of: "-"), fields.count > dash + 3 else {
            return nil
        }
        switch fields[dash + 1] {
        case "cgroup2": version = .v2
        case "cgroup":
            guard fields[dash + 3].split(separator: ",").contains("cpu") else { return nil }
            version = .v1
        default: return nil
        }
        root = String(fields[3]).decodingMountEscapes
        point = String(fields[4]).decodingMountEscapes
    }
}

extension String {
    /// Whether this path is `directory` or below it.
    fileprivate func isInside(_ directory: String) -> Bool {
        directory == "/" || self == directory || hasPrefix(directory + "/")
    }

    fileprivate func appending(path name: some StringProtocol) -> String {
        hasSuffix("/") ? self + name : self + "/" + name
    }

    /// Blanks, tabs, newlines and backslashes stand as three octal digits in mountinfo.
    fileprivate var decodingMountEscapes: String {
        guard contains("\\") else { return self }
        var bytes: [UInt8] = []
        var rest = Array(utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
