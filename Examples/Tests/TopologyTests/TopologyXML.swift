// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

enum TopologyXML {
    /// A made-up machine: a package with a node and a level 3 cache of two cores, of which one has a sibling; and one of two
    /// PUs of a slower kind, without cores, caches or memory. The kernel's numbers have gaps.
    static let sparse = """
        <?xml version="1.0" encoding="UTF-8"?>
        <!DOCTYPE topology SYSTEM "hwloc2.dtd">
        <topology version="2.0">
          <object type="Machine" os_index="0" cpuset="0x370" complete_cpuset="0x370" allowed_cpuset="0x370" nodeset="0x1" \
        complete_nodeset="0x1" allowed_nodeset="0x1" gp_index="1">
            <object type="Package" os_index="0" cpuset="0x70" complete_cpuset="0x70" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="2">
              <info name="CPUModel" value="Imagined &amp; Fast"/>
              <object type="NUMANode" os_index="0" cpuset="0x70" complete_cpuset="0x70" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="3" local_memory="3221225472"/>
              <object type="L3Cache" cpuset="0x70" complete_cpuset="0x70" nodeset="0x1" complete_nodeset="0x1" gp_index="4" \
        cache_size="25165824" depth="3" cache_linesize="64" cache_associativity="16" cache_type="0">
                <object type="Core" os_index="0" cpuset="0x30" complete_cpuset="0x30" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="5">
                  <object type="PU" os_index="4" cpuset="0x10" complete_cpuset="0x10" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="6"/>
                  <object type="PU" os_index="5" cpuset="0x20" complete_cpuset="0x20" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="7"/>
                </object>
                <object type="Core" os_index="1" cpuset="0x40" complete_cpuset="0x40" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="8">
                  <object type="PU" os_index="6" cpuset="0x40" complete_cpuset="0x40" nodeset="0x1" complete_nodeset="0x1" \
        gp_index="9"/>
                </object>
              </object>
            </object>
            <object type="Package" os_index="1" cpuset="0x300" complete_cpuset="0x300" nodeset="0x0" complete_nodeset="0x0" \
        gp_index="10">
              <object type="PU" os_index="8" cpuset="0x100" complete_cpuset="0x100" nodeset="0x0" complete_nodeset="0x0" \
        gp_index="11"/>
              <object type="PU" os_index="9" cpuset="0x200" complete_cpuset="0x200" nodeset="0x0" complete_nodeset="0x0" \
        gp_index="12"/>
            </object>
          </object>
          <cpukind cpuset="0x300" forced_efficiency="0"><info name="CoreType" value="Frugal"/></cpukind>
          <cpukind cpuset="0x70" forced_efficiency="1"><info name="CoreType" value="Swift"/></cpukind>
        </topology>
        """
}
