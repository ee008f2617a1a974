// grafana.mjs: prints the dashboard for Grafana. The file in packaging/grafana is what it prints:
//   node scripts/grafana.mjs > packaging/grafana/drover.json
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  RowBuilder,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeSeriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';
import prettier from 'prettier';

/** Per second and per interval over what Grafana thinks fit for the width of the panel. */
const rate = (series) => `rate(${series}[$__rate_interval])`;
const increase = (series) => `increase(${series}[$__rate_interval])`;
const quantile = (q, series, by = '') =>
  `histogram_quantile(${q}, sum by (le${by}) (${rate(`${series.replace(/(\{|$)/, '_bucket$1')}`)}))`;

/** Numbers at the top. */
const STATS = [
  ['Up', 'none', [['up{job="drover"}', 'up']]],
  ['Building', 'short', [['drover_leases_held', 'slots in use']]],
  ['Waiting', 'short', [['drover_leases_waiting', 'sessions']]],
  ['Longest wait', 's', [['drover_queue_age_seconds', 'the oldest']]],
  ['Guests', 'short', [['sum(drover_guests)', 'guests']]],
  [
    'Failed builds in 24 h',
    'short',
    [
      [
        'sum(increase(drover_builds_total{result=~".*Failure|TimedOut|OutputRejected|Lost|Error"}[24h]))',
        'failed',
      ],
    ],
  ],
];

/** Panels by the question that they answer; units are Grafana's. */
const ROWS = {
  Builds: [
    [
      'Builds ended, by result',
      'short',
      [[`sum by (result) (${increase('drover_builds_total')}) > 0`, '{{result}}']],
    ],
    [
      'Duration of builds',
      's',
      [
        [quantile(0.5, 'drover_build_seconds'), 'median'],
        [quantile(0.9, 'drover_build_seconds'), '90 %'],
      ],
    ],
    [
      'Builds started again, by cause',
      'short',
      [[`sum by (cause) (${increase('drover_builds_replayed_total')})`, '{{cause}}']],
    ],
    [
      'Processors in use by builds',
      'short',
      [[`sum by (system) (${rate('drover_build_cpu_seconds_total')})`, '{{system}}']],
    ],
    ['Log lines per second', 'short', [[rate('drover_build_log_lines_total'), 'lines']]],
  ],
  Queue: [
    [
      'Wait for a guest',
      's',
      [
        [quantile(0.5, 'drover_lease_wait_seconds'), 'median'],
        [quantile(0.9, 'drover_lease_wait_seconds'), '90 %'],
      ],
    ],
    [
      'Slots',
      'short',
      [
        ['drover_leases_held', 'in use'],
        ['drover_leases_waiting', 'wanted'],
        ['drover_leases_max', 'limit'],
      ],
    ],
    [
      'Waits that ended',
      'short',
      [
        [increase('drover_leases_granted_total'), 'with a guest'],
        [increase('drover_leases_refused_total'), 'without'],
      ],
    ],
  ],
  Guests: [
    [
      'Guests, by state',
      'short',
      [
        ['drover_guests', '{{state}}'],
        ['drover_guests_max', 'limit'],
      ],
    ],
    [
      'Duration of boots',
      's',
      [
        [quantile(0.5, 'drover_boot_seconds{result="ok"}'), 'median'],
        [quantile(0.9, 'drover_boot_seconds{result="ok"}'), '90 %'],
      ],
    ],
    [
      'Phases of boots, on average',
      's',
      [
        [
          `sum by (phase) (${rate('drover_boot_phase_seconds_sum')}) / sum by (phase) (${rate('drover_boot_phase_seconds_count')})`,
          '{{phase}}',
        ],
      ],
    ],
    [
      'Failed boots, by reason',
      'short',
      [[`sum by (reason) (${increase('drover_boot_failures_total')})`, '{{reason}}']],
    ],
    [
      'Guests retired, by reason',
      'short',
      [[`sum by (reason) (${increase('drover_guests_retired_total')})`, '{{reason}}']],
    ],
    ['Guests lost', 'short', [[increase('drover_guests_lost_total'), 'lost']]],
    ['Files that the share lacked', 'short', [[increase('drover_share_retries_total'), 'retries']]],
    ['Scratch', 'bytes', [['drover_scratch_bytes', '{{what}}']]],
    ['Memory of guests', 'bytes', [['drover_memory_bytes', '{{what}}']]],
    ['Scratch of the fullest guest', 'percentunit', [['drover_scratch_fullest_ratio', 'used']]],
  ],
  'Inputs and sessions': [
    ['Inputs, as NARs', 'Bps', [[`sum by (how) (${rate('drover_provisioned_bytes_total')})`, '{{how}}']]],
    [
      'Paths provided',
      'short',
      [[`sum by (how) (${increase('drover_provisioned_paths_total')})`, '{{how}}']],
    ],
    [
      'Time to provide inputs',
      's',
      [
        [quantile(0.5, 'drover_provision_seconds'), 'median'],
        [quantile(0.9, 'drover_provision_seconds'), '90 %'],
      ],
    ],
    [
      'Bytes through the doors',
      'Bps',
      [[`sum by (direction) (${rate('drover_relayed_bytes_total')})`, '{{direction}}']],
    ],
    ['Sessions', 'short', [['drover_sessions_open', '{{door}}']]],
    [
      'Sessions opened',
      'short',
      [[`sum by (door) (${increase('drover_sessions_opened_total')})`, '{{door}}']],
    ],
    [
      'Failed sessions, by error',
      'short',
      [[`sum by (code) (${increase('drover_sessions_failed_total')})`, '{{code}}']],
    ],
  ],
  Supervisor: [
    ['Processor', 'percentunit', [[rate('process_cpu_seconds_total{job="drover"}'), 'supervisor']]],
    ['Pressure on the host', 'percentunit', [[rate('drover_host_pressure_seconds_total'), '{{resource}}']]],
    ['Resident memory', 'bytes', [['process_resident_memory_bytes{job="drover"}', 'supervisor']]],
    [
      'Reloads of the configuration',
      'short',
      [[`sum by (result) (${increase('drover_config_reloads_total')})`, '{{result}}']],
    ],
    [
      'Trials of new guests',
      'short',
      [[`sum by (result) (${increase('drover_rollouts_total')})`, '{{result}}']],
    ],
    ['Systems that are built here', 'short', [['drover_system_served', '{{system}}']]],
    ['Version', 'none', [['drover_info', '{{version}}, Nix {{nix_version}}']]],
  ],
};

const SOURCE = { type: 'prometheus', uid: '${datasource}' };

function panel(builder, [title, unit, queries], height, span) {
  builder.title(title).unit(unit).min(0).height(height).span(span).datasource(SOURCE);
  for (const [expression, legend] of queries)
    builder.withTarget(new DataqueryBuilder().expr(expression).legendFormat(legend));
  return builder;
}

const dashboard = new DashboardBuilder('Drover')
  .uid('drover')
  .tags(['drover', 'nix'])
  .refresh('30s')
  .time({ from: 'now-6h', to: 'now' })
  .timezone('browser')
  .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'));
for (const stat of STATS) dashboard.withPanel(panel(new StatBuilder(), stat, 4, 4));
for (const [title, panels] of Object.entries(ROWS)) {
  dashboard.withRow(new RowBuilder(title));
  for (const each of panels) dashboard.withPanel(panel(new TimeSeriesBuilder(), each, 7, 8));
}
process.stdout.write(
  await prettier.format(JSON.stringify(dashboard.build()), { parser: 'json', printWidth: 110 }),
);
